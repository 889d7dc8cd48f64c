-- The market's state as it was when the event `seq`, a checkpoint, had been taken; zlib. The newest ones are kept.
CREATE TABLE snapshot (
    seq     INTEGER PRIMARY KEY REFERENCES event (seq),
    content BLOB NOT NULL
) STRICT;

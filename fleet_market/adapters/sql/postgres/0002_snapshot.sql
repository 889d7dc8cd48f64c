-- The market's state as it was when the event `seq`, a checkpoint, had been taken; zlib. The newest ones are kept.
CREATE TABLE snapshot (
    seq     bigint PRIMARY KEY REFERENCES event (seq),
    content bytea NOT NULL
);
-- It is compressed already.
ALTER TABLE snapshot ALTER COLUMN content SET STORAGE EXTERNAL;

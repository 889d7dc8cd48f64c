-- One row per input of the market, in the order in which it took effect; each bound to those before it by `hash`.
CREATE TABLE event (
    seq           INTEGER PRIMARY KEY,
    now_ns        INTEGER NOT NULL,
    source        TEXT NOT NULL,
    message_id    TEXT,
    sid           INTEGER NOT NULL,
    body          BLOB NOT NULL,
    lookups       BLOB NOT NULL,
    reply_topic   TEXT,
    reply_payload BLOB,
    effects       TEXT NOT NULL,
    hash          TEXT NOT NULL,
    UNIQUE (source, message_id)
) STRICT;

CREATE TABLE account (
    id              TEXT PRIMARY KEY CHECK (id GLOB '[a-z]*:?*'),
    debits_posted   INTEGER NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
    credits_posted  INTEGER NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
    debits_pending  INTEGER NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
    credits_pending INTEGER NOT NULL DEFAULT 0 CHECK (credits_pending >= 0),
    CONSTRAINT only_the_world_is_overdrawn
        CHECK (id GLOB 'world:*' OR debits_posted + debits_pending <= credits_posted),
    CONSTRAINT the_world_receives_nothing CHECK (id NOT GLOB 'world:*' OR credits_posted + credits_pending = 0),
    CONSTRAINT a_sink_gives_nothing CHECK (id NOT GLOB 'sink:*' OR debits_posted + debits_pending = 0)
) STRICT, WITHOUT ROWID;

-- The journal: append-only, each row bound to those before it by `hash`.
CREATE TABLE journal (
    seq          INTEGER PRIMARY KEY,
    timestamp_ns INTEGER NOT NULL,
    id           TEXT NOT NULL UNIQUE,
    kind         TEXT NOT NULL CHECK (kind IN ('post', 'hold', 'capture', 'void', 'expire')),
    debit        TEXT NOT NULL REFERENCES account (id),
    credit       TEXT NOT NULL REFERENCES account (id),
    amount_uc    INTEGER NOT NULL CHECK (amount_uc > 0),
    pending      TEXT REFERENCES journal (id),
    reference    TEXT NOT NULL,
    expires_ns   INTEGER,
    hash         TEXT NOT NULL,
    CHECK (debit <> credit),
    CHECK ((pending IS NULL) = (kind IN ('post', 'hold'))),
    CHECK (expires_ns IS NULL OR kind = 'hold')
) STRICT;

-- A hold ends once.
CREATE UNIQUE INDEX journal_resolution ON journal (pending) WHERE pending IS NOT NULL;

CREATE TRIGGER event_is_append_only_update BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;

CREATE TRIGGER event_is_append_only_delete BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;

CREATE TRIGGER journal_is_append_only_update BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TRIGGER journal_is_append_only_delete BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

-- Messages that their receivers have not confirmed yet.
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    topic    TEXT NOT NULL,
    payload  BLOB NOT NULL,
    digest   TEXT NOT NULL
) STRICT;

-- The signed last row of each day.
CREATE TABLE head (
    day       INTEGER PRIMARY KEY,
    seq       INTEGER NOT NULL REFERENCES journal (seq),
    hash      TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;

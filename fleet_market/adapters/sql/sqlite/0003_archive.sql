-- The beginnings of event log and journal that have been archived: the last row of each, and the file that holds them.
-- The chains go on behind the newest of these rows, from the snapshot of the event that follows it.
CREATE TABLE archive (
    event_seq    INTEGER PRIMARY KEY CHECK (event_seq > 0),
    event_hash   TEXT NOT NULL,
    journal_seq  INTEGER NOT NULL CHECK (journal_seq >= 0),
    journal_hash TEXT NOT NULL,
    journal_ns   INTEGER NOT NULL,
    file         TEXT NOT NULL,
    sha256       TEXT NOT NULL
) STRICT;

CREATE TRIGGER archive_is_append_only_update BEFORE UPDATE ON archive
BEGIN SELECT RAISE(ABORT, 'the list of archives is append-only'); END;

CREATE TRIGGER archive_is_append_only_delete BEFORE DELETE ON archive
BEGIN SELECT RAISE(ABORT, 'the list of archives is append-only'); END;

CREATE TRIGGER archive_grows BEFORE INSERT ON archive
WHEN NEW.event_seq <= (SELECT max(event_seq) FROM archive) OR NEW.journal_seq < (SELECT max(journal_seq) FROM archive)
BEGIN SELECT RAISE(ABORT, 'an archive begins where the last one ends'); END;

-- Only what has been archived may leave.
DROP TRIGGER event_is_append_only_delete;
CREATE TRIGGER event_is_append_only_delete BEFORE DELETE ON event
WHEN OLD.seq > (SELECT coalesce(max(event_seq), 0) FROM archive)
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;

DROP TRIGGER journal_is_append_only_delete;
CREATE TRIGGER journal_is_append_only_delete BEFORE DELETE ON journal
WHEN OLD.seq > (SELECT coalesce(max(journal_seq), 0) FROM archive)
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

-- A signed head stays when its row has gone.
CREATE TABLE signed (
    day       INTEGER PRIMARY KEY,
    seq       INTEGER NOT NULL,
    hash      TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;
INSERT INTO signed SELECT day, seq, hash, key_id, signature FROM head;
DROP TABLE head;
ALTER TABLE signed RENAME TO head;

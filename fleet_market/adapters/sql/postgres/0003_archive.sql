-- The beginnings of event log and journal that have been archived: the last row of each, and the file that holds them.
-- The chains go on behind the newest of these rows, from the snapshot of the event that follows it.
CREATE TABLE archive (
    event_seq    bigint PRIMARY KEY CHECK (event_seq > 0),
    event_hash   text NOT NULL,
    journal_seq  bigint NOT NULL CHECK (journal_seq >= 0),
    journal_hash text NOT NULL,
    journal_ns   bigint NOT NULL,
    file         text NOT NULL,
    sha256       text NOT NULL
);

CREATE TRIGGER archive_is_append_only BEFORE UPDATE OR DELETE ON archive
FOR EACH ROW EXECUTE FUNCTION append_only('list of archives');

CREATE FUNCTION archive_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.event_seq <= (SELECT max(event_seq) FROM archive) OR NEW.journal_seq < (SELECT max(journal_seq) FROM archive) THEN
        RAISE EXCEPTION 'an archive begins where the last one ends' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER archive_grows BEFORE INSERT ON archive FOR EACH ROW EXECUTE FUNCTION archive_grows();

-- Only what has been archived may leave; looked at once for each statement.
CREATE FUNCTION only_archived() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
    found boolean;
BEGIN
    EXECUTE format('SELECT coalesce(max(%I), 0) FROM archive', TG_ARGV[1]) INTO last;
    SELECT EXISTS (SELECT 1 FROM gone WHERE seq > last) INTO found;
    IF found THEN
        RAISE EXCEPTION 'the % is append-only', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER event_is_append_only ON event;
CREATE TRIGGER event_is_append_only BEFORE UPDATE ON event
FOR EACH ROW EXECUTE FUNCTION append_only('event log');
CREATE TRIGGER event_leaves_archived AFTER DELETE ON event REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION only_archived('event log', 'event_seq');

DROP TRIGGER journal_is_append_only ON journal;
CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON journal
FOR EACH ROW EXECUTE FUNCTION append_only('journal');
CREATE TRIGGER journal_leaves_archived AFTER DELETE ON journal REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION only_archived('journal', 'journal_seq');

-- A signed head stays when its row has gone.
ALTER TABLE head DROP CONSTRAINT head_seq_fkey;

-- One row per input of the market, in the order in which it took effect; each bound to those before it by `hash`.
CREATE TABLE event (
    seq           bigint PRIMARY KEY,
    now_ns        bigint NOT NULL,
    source        text NOT NULL,
    message_id    text,
    sid           bigint NOT NULL,
    body          bytea NOT NULL,
    lookups       bytea NOT NULL,
    reply_topic   text,
    reply_payload bytea,
    effects       text NOT NULL,
    hash          text NOT NULL,
    UNIQUE (source, message_id)
);

CREATE TABLE account (
    id              text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z]+:.'),
    debits_posted   bigint NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
    credits_posted  bigint NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
    debits_pending  bigint NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
    credits_pending bigint NOT NULL DEFAULT 0 CHECK (credits_pending >= 0),
    CONSTRAINT only_the_world_is_overdrawn
        CHECK (id LIKE 'world:%' OR debits_posted + debits_pending <= credits_posted),
    CONSTRAINT the_world_receives_nothing CHECK (id NOT LIKE 'world:%' OR credits_posted + credits_pending = 0),
    CONSTRAINT a_sink_gives_nothing CHECK (id NOT LIKE 'sink:%' OR debits_posted + debits_pending = 0)
);

-- The journal: append-only, each row bound to those before it by `hash`.
CREATE TABLE journal (
    seq          bigint PRIMARY KEY,
    timestamp_ns bigint NOT NULL,
    id           text COLLATE "C" NOT NULL UNIQUE,
    kind         text NOT NULL CHECK (kind IN ('post', 'hold', 'capture', 'void', 'expire')),
    debit        text COLLATE "C" NOT NULL REFERENCES account (id),
    credit       text COLLATE "C" NOT NULL REFERENCES account (id),
    amount_uc    bigint NOT NULL CHECK (amount_uc > 0),
    pending      text COLLATE "C" REFERENCES journal (id),
    reference    text NOT NULL,
    expires_ns   bigint,
    hash         text NOT NULL,
    CHECK (debit <> credit),
    CHECK ((pending IS NULL) = (kind IN ('post', 'hold'))),
    CHECK (expires_ns IS NULL OR kind = 'hold')
);

-- A hold ends once.
CREATE UNIQUE INDEX journal_resolution ON journal (pending) WHERE pending IS NOT NULL;

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the % is append-only', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$;

CREATE TRIGGER event_is_append_only BEFORE UPDATE OR DELETE ON event
FOR EACH ROW EXECUTE FUNCTION append_only('event log');

CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE ON journal
FOR EACH ROW EXECUTE FUNCTION append_only('journal');

-- Messages that their receivers have not confirmed yet.
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       text COLLATE "C" NOT NULL UNIQUE,
    topic    text NOT NULL,
    payload  bytea NOT NULL,
    digest   text NOT NULL
);

-- The signed last row of each day.
CREATE TABLE head (
    day       bigint PRIMARY KEY,
    seq       bigint NOT NULL REFERENCES journal (seq),
    hash      text NOT NULL,
    key_id    text NOT NULL,
    signature bytea NOT NULL
);

-- Who runs which zone, and until when, if nothing is heard; the clock is the database's.
-- A new holder gets the next epoch, and the old one's writes, which name their epoch, match nothing any more.
CREATE TABLE lease (
    zone   text COLLATE "C" PRIMARY KEY,
    epoch  bigint NOT NULL CHECK (epoch > 0),
    holder text NOT NULL,
    until  timestamptz NOT NULL
);

-- The daemons that are there, which zones each would run, and how many it does run.
CREATE TABLE daemon (
    name  text PRIMARY KEY,
    zones text[] NOT NULL,
    held  integer NOT NULL,
    until timestamptz NOT NULL
);

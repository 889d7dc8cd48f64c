-- How many zones a daemon runs is counted from the leases: what it last said of itself may be old.
ALTER TABLE daemon DROP COLUMN held;

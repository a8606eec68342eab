-- The queue of pe-unified pacs. Times are seconds since 1970.
CREATE TABLE IF NOT EXISTS studies (
  uid TEXT PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,             -- pseudonym, for logs and pages
  source TEXT NOT NULL,                 -- calling AE title, or the name of a poll
  state TEXT NOT NULL,                  -- see store.STATES
  received REAL NOT NULL,               -- the first image
  changed REAL NOT NULL,                -- the newest image
  priority INTEGER NOT NULL DEFAULT 0,
  rule TEXT NOT NULL DEFAULT '',
  tries INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  digest TEXT NOT NULL DEFAULT '',      -- of the images to analyse
  done_digest TEXT NOT NULL DEFAULT '', -- of the images that the newest results were made from
  revision INTEGER NOT NULL DEFAULT 0,  -- how often it was analysed
  verdict TEXT NOT NULL DEFAULT '',
  started REAL,
  finished REAL,
  seconds REAL                          -- of the newest analysis
) STRICT;
CREATE INDEX IF NOT EXISTS by_state ON studies (state, priority, received);
CREATE TABLE IF NOT EXISTS series (
  study TEXT NOT NULL REFERENCES studies (uid),
  uid TEXT NOT NULL,
  facts TEXT NOT NULL,                  -- JSON, see rules.facts_of
  wanted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (study, uid)
) STRICT;
CREATE TABLE IF NOT EXISTS images (
  study TEXT NOT NULL,
  series TEXT NOT NULL,
  uid TEXT NOT NULL,
  PRIMARY KEY (study, series, uid)
) STRICT, WITHOUT ROWID;
-- What has to be sent where. Rows of sent results are kept, so that nothing is sent twice.
CREATE TABLE IF NOT EXISTS results (
  id INTEGER PRIMARY KEY,
  study TEXT NOT NULL REFERENCES studies (uid),
  destination TEXT NOT NULL,
  kind TEXT NOT NULL,
  path TEXT NOT NULL,
  sop_uid TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting', -- waiting, sent, given up
  made REAL NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS by_destination ON results (destination, state, not_before);
CREATE INDEX IF NOT EXISTS by_study ON results (study, state);

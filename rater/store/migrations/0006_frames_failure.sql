-- Why the rating of a failed frame failed: script or module, line, reason. Empty for every other frame.
ALTER TABLE frames ADD COLUMN IF NOT EXISTS failure String DEFAULT '' CODEC(ZSTD(1)) AFTER quarantined;

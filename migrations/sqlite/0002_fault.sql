-- Whose a failure was, in the words of `src/fault.rs`. Failures of earlier releases have none.
ALTER TABLE model_version ADD COLUMN error_fault TEXT;

//! Versions of what the embedded store's file contains, and the way from each to the next.

use std::time::{SystemTime, UNIX_EPOCH};

use redb::{TableDefinition, WriteTransaction};

/// Facts about the file: `schema` (its version) and `revision`.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Records: key to revision and content.
pub(super) const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");

/// Key of the schema's version in [`META`].
pub(super) const SCHEMA: &str = "schema";
/// Key of the latest revision in [`META`].
pub(super) const REVISION: &str = "revision";

/// Makes version n + 1 out of version n.
pub(super) type Step = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// The step at index n leads from version n to version n + 1; a file that is new has version 0. A step is never changed
/// once it was released: another one is added.
pub(super) const STEPS: &[Step] = &[create];

/// Revisions begin with the seconds since 1970: epochs are revisions, and vNICs refuse an epoch that is lower than one
/// that they have seen, perhaps of a controller that had no store and took its epoch from the clock.
fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    transaction.open_table(META)?.insert(REVISION, seconds)?;
    transaction.open_table(RECORDS)?;
    Ok(())
}

/// Brings a file to the version that `steps` lead to, in one transaction: whatever happens, the file has either its
/// old version or the new one. Returns the version that it had.
///
/// # Errors
/// A text, if the file cannot be used, or has a version that this program does not know.
pub(super) fn migrate(database: &redb::Database, steps: &[Step]) -> Result<u64, String> {
    let text = |error: redb::Error| error.to_string();
    let transaction = database.begin_write().map_err(|error| text(error.into()))?;
    let found = {
        let meta = transaction.open_table(META).map_err(|error| text(error.into()))?;
        use redb::ReadableTable as _;
        let found = meta.get(SCHEMA).map_err(|error| text(error.into()))?;
        found.map_or(0, |version| version.value())
    };
    let newest = steps.len() as u64;
    if found > newest {
        return Err(format!(
            "it was written by a newer cvsw (its schema has version {found}, this program knows up to {newest}): use \
             that version, or restore the copy that you made before"
        ));
    }
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for step in steps.iter().skip(done) {
        step(&transaction).map_err(text)?;
    }
    {
        let mut meta = transaction.open_table(META).map_err(|error| text(error.into()))?;
        meta.insert(SCHEMA, newest).map_err(|error| text(error.into()))?;
    }
    transaction.commit().map_err(|error| text(error.into()))?;
    Ok(found)
}

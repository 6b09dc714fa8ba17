//! The log of a build: lines with an index, kept in the database so that a page opened later, and one that reconnects, shows all.
//!
//! What must stay true: indexes of a build count up from 0 without a gap, also over several attempts; only the attempt that runs
//! writes; a build that talks without end fills no disk.

use sqlx::{Row as _, Sqlite, Transaction};

use super::catalog::{Catalog, CatalogError, Change, failed, now_ms, timestamp};
use super::queue::fence;
use super::record::{BuildId, Claim, Level, LogLine, NewLine};

/// The most lines that a build's log keeps; the last of them says that there were more.
pub const LOG_LINES_MAX: i64 = 10_000;
/// The most bytes that a line keeps. With [`LOG_LINES_MAX`], a log is 40 MB at most.
pub const LOG_LINE_BYTES_MAX: usize = 4096;
/// The most lines that one reading gives.
pub const LOG_READ_MAX: i64 = 500;

impl Catalog {
    /// Adds lines to the log of a claimed build.
    pub async fn log(&self, claim: &Claim, lines: &[NewLine]) -> Result<(), CatalogError> {
        let operation = "write a build's log";
        let mut transaction = self.write(operation).await?;
        fence(&mut transaction, claim, operation).await?;
        append(&mut transaction, claim.build, lines).await?;
        transaction.commit().await.map_err(failed(operation))?;
        self.tell(Change::Log(claim.build));
        Ok(())
    }

    /// The lines of a build's log from `index` on, at most [`LOG_READ_MAX`].
    pub async fn logs_from(&self, build: BuildId, index: i64) -> Result<Vec<LogLine>, CatalogError> {
        let query = sqlx::query_as::<_, (i64, i64, String, String)>(
            "SELECT line, at_ms, level, text FROM build_log WHERE build_id = $1 AND line >= $2 ORDER BY line LIMIT $3",
        );
        let rows = query.bind(build).bind(index).bind(LOG_READ_MAX).fetch_all(self.reader()).await.map_err(failed("read a build's log"))?;
        let line = |(index, at_ms, level, text): (i64, i64, String, String)| {
            let level = Level::from_word(&level).ok_or(CatalogError::Row { column: "level", value: level })?;
            Ok(LogLine { index, at: timestamp(at_ms, "at_ms")?, level, text })
        };
        rows.into_iter().map(line).collect()
    }
}

/// Adds lines within a transaction, as long as there is room.
pub(super) async fn append(transaction: &mut Transaction<'static, Sqlite>, build: BuildId, lines: &[NewLine]) -> Result<(), CatalogError> {
    let operation = "write a build's log";
    let next = sqlx::query("SELECT COALESCE(MAX(line) + 1, 0) FROM build_log WHERE build_id = $1").bind(build);
    let next: i64 = next.fetch_one(&mut **transaction).await.and_then(|row| row.try_get(0)).map_err(failed(operation))?;
    let notice = NewLine::warning(format!("the log is full: lines after the first {} are not kept", LOG_LINES_MAX - 1));
    for (line, index) in lines.iter().zip(next..LOG_LINES_MAX) {
        let line = if index == LOG_LINES_MAX - 1 { &notice } else { line };
        sqlx::query("INSERT INTO build_log (build_id, line, at_ms, level, text) VALUES ($1, $2, $3, $4, $5)")
            .bind(build)
            .bind(index)
            .bind(now_ms())
            .bind(line.level.word())
            .bind(one_line(&line.text))
            .execute(&mut **transaction)
            .await
            .map_err(failed(operation))?;
    }
    Ok(())
}

/// One line, not too long: a line break in a text would tear the event stream that it is shown through.
fn one_line(text: &str) -> String {
    let end = text.floor_char_boundary(LOG_LINE_BYTES_MAX);
    let mut line: String = text[..end].trim_end().chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
    if end < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::queue::tests::{catalog, new_version};
    use super::*;

    #[tokio::test]
    async fn lines_come_back_in_order_from_any_index() {
        let (_folder, catalog) = catalog().await;
        catalog.create_version(new_version("m")).await.unwrap();
        let claim = catalog.claim(60).await.unwrap().unwrap();
        catalog.log(&claim, &[NewLine::info("one"), NewLine::warning("two\nlines")]).await.unwrap();
        catalog.log(&claim, &[NewLine::error("x".repeat(LOG_LINE_BYTES_MAX + 1))]).await.unwrap();
        let texts = |lines: Vec<LogLine>| lines.into_iter().map(|line| (line.index, line.level, line.text)).collect::<Vec<_>>();
        let all = texts(catalog.logs_from(claim.build, 0).await.unwrap());
        assert_eq!(all[0], (0, Level::Info, "uploaded".to_owned()));
        assert_eq!(all[1], (1, Level::Info, "one".to_owned()));
        assert_eq!(all[2], (2, Level::Warning, "two lines".to_owned()));
        assert_eq!(all[3].2, format!("{}…", "x".repeat(LOG_LINE_BYTES_MAX)));
        assert_eq!(texts(catalog.logs_from(claim.build, 2).await.unwrap()), all[2..]);
        assert_eq!(catalog.logs_from(claim.build, 4).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_log_that_is_full_says_so_once_and_grows_no_more() {
        let (_folder, catalog) = catalog().await;
        catalog.create_version(new_version("m")).await.unwrap();
        let claim = catalog.claim(60).await.unwrap().unwrap();
        let many: Vec<_> = (0..LOG_LINES_MAX + 7).map(|i| NewLine::info(format!("{i}"))).collect();
        catalog.log(&claim, &many).await.unwrap();
        catalog.log(&claim, &[NewLine::info("late")]).await.unwrap();
        let last = catalog.logs_from(claim.build, LOG_LINES_MAX - 2).await.unwrap();
        assert_eq!(last.len(), 2);
        // The upload's own line is the first of them.
        assert_eq!((last[0].text.as_str(), last[1].level), ("9997", Level::Warning));
        assert!(last[1].text.contains("not kept"), "{}", last[1].text);
    }
}

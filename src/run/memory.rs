//! Memory that only the start needed.

use std::time::Duration;

use super::Tasks;

/// By then the first pass is done, and everybody has been called.
const STARTED: Duration = Duration::from_secs(10);

/// Lets go of the code that starting needed, once the process has started.
pub(crate) fn release(tasks: &mut Tasks) {
    tasks.spawn("memory", || async {
        tokio::time::sleep(STARTED).await;
        if let Err(error) = tunnel::release_text() {
            tracing::debug!(%error, "code that only the start needed stays in memory");
        }
        std::future::pending().await
    });
}

//! The same work on several things at the same time.

use anyhow::Result;

/// Runs `work` on each item in a thread of its own, and gives back the results in the order of the items.
///
/// # Errors
/// The first error in that order; the others run to their end.
pub fn map<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        let results: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("the work does not panic")).collect();
        results.into_iter().collect()
    })
}

//! Counts a flow in the kernel for a while.

use super::NftError;
use super::nft::commit;
use super::ruleset::list_json;
use crate::node::counters::{Count, Flow, counts, delete_commands, install_commands, table_name, tables};

/// A flow that is being counted.
#[derive(Debug)]
pub struct Counting {
    table: String,
    flow: Flow,
}

impl Counting {
    /// Begins. `looker` sets apart those that count at the same time on one node: the process's ID.
    ///
    /// # Errors
    /// When `nft` does not run or may not write (`CAP_NET_ADMIN`).
    pub async fn start(looker: u32, flow: Flow) -> Result<Self, NftError> {
        let table = table_name(looker);
        commit(&install_commands(&table, &flow), "count a flow").await?;
        Ok(Self { table, flow })
    }

    /// Reads the counters, and removes them.
    ///
    /// # Errors
    /// When `nft` fails. What is left then goes with [`remove_counters`].
    pub async fn finish(self) -> Result<Vec<Count>, NftError> {
        let listing = list_json(&["counters"], "read counters").await;
        commit(&delete_commands(&self.table), "remove counters").await?;
        Ok(counts(&listing?, &self.table, &self.flow))
    }
}

/// The names of tables with counters, those of processes that run among them.
///
/// # Errors
/// When `nft` fails.
pub async fn find_counters() -> Result<Vec<String>, NftError> {
    Ok(tables(&list_json(&["tables"], "list tables").await?))
}

/// Removes the counters of processes that did not come to it, and tells the names of their tables.
///
/// # Errors
/// When `nft` fails.
pub async fn remove_counters() -> Result<Vec<String>, NftError> {
    let found = find_counters().await?;
    for table in &found {
        commit(&delete_commands(table), "remove counters").await?;
    }
    Ok(found)
}

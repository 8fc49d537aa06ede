//! The program `nft`, spoken to in JSON.

use std::io;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::node::mark::NFT_TABLE;
use crate::node::nft::Table;

/// The program `nft` failed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// Not started, or not spoken to.
    #[error("failed to run nft: {0}: install nftables, and put it in PATH")]
    Run(#[source] io::Error),
    /// Ended with an error.
    #[error("nft refused to {what}: {}", .message.trim())]
    Refused {
        /// What it was asked to do.
        what: &'static str,
        /// What it wrote to standard error.
        message: String,
    },
    /// Printed something else than a table in JSON.
    #[error("nft did not print table inet {NFT_TABLE} as JSON: nft 0.9.1 or later with JSON support is needed")]
    Form,
}

/// Our table, if it is there.
pub(super) async fn list() -> Result<Option<Table>, NftError> {
    let mut command = nft();
    command.args(["-j", "list", "table", "inet", NFT_TABLE]).stdin(Stdio::null());
    let output = command.output().await.map_err(NftError::Run)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        // nft has one exit status for all errors; the text is strerror(ENOENT) in the C locale.
        return if message.contains("No such file or directory") {
            Ok(None)
        } else {
            Err(NftError::Refused { what: "list our table", message })
        };
    }
    let listing = serde_json::from_slice(&output.stdout).map_err(|_| NftError::Form)?;
    Table::from_listing(listing).map(Some).ok_or(NftError::Form)
}

/// Commits a batch of commands as one transaction.
pub(super) async fn commit(commands: &Value, what: &'static str) -> Result<(), NftError> {
    let mut child = nft().args(["-j", "-f", "-"]).stdin(Stdio::piped()).spawn().map_err(NftError::Run)?;
    let mut input = child.stdin.take().expect("standard input is piped");
    let written = input.write_all(commands.to_string().as_bytes()).await;
    drop(input);
    let output = child.wait_with_output().await.map_err(NftError::Run)?;
    if !output.status.success() {
        return Err(NftError::Refused { what, message: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    // Success without having read everything would be a success of nothing.
    written.map_err(NftError::Run)
}

pub(super) fn nft() -> Command {
    let mut command = Command::new("nft");
    command.env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

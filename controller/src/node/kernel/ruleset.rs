//! The whole packet filter, read only.

use std::process::Stdio;

use super::NftError;
use super::nft::nft;
use crate::node::filter::Ruleset;

/// All rules that the kernel has, those of other programs too.
///
/// # Errors
/// When `nft` does not run, may not see them, or prints something else.
pub async fn ruleset() -> Result<(Ruleset, serde_json::Value), NftError> {
    let listing = list_json(&["ruleset"], "list the ruleset").await?;
    Ok((Ruleset::read(&listing), listing))
}

/// What `nft -j list WORDS` prints.
pub(super) async fn list_json(words: &[&str], what: &'static str) -> Result<serde_json::Value, NftError> {
    let mut command = nft();
    command.args(["-j", "list"]).args(words).stdin(Stdio::null());
    let output = command.output().await.map_err(NftError::Run)?;
    if !output.status.success() {
        return Err(NftError::Refused { what, message: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    serde_json::from_slice(&output.stdout).map_err(|_| NftError::Form)
}

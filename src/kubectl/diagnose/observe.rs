//! What is seen for a diagnosis: the only part of it that is not pure.

use super::questions;
use crate::kubectl::contexts::Target;
use crate::kubectl::output::Progress;
use crate::kubectl::picture::{Picture, all_nodes, ask};

/// Asks all nodes, and then, with what they have told, whom they reach. `targets` are in the order of the picture's clusters.
pub async fn ask_nodes(targets: &[Target], picture: &mut Picture, progress: &Progress) {
    progress.now("asking nodes");
    let everybody = all_nodes(picture);
    ask(targets, picture, &everybody).await;
    progress.now("asking nodes whom they reach");
    let asked = questions(picture);
    ask(targets, picture, &asked).await;
}

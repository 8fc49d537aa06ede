//! What the gateway says: lines of JSON, each of them whole, so that the newest alone counts.
//!
//! ```text
//! {"version":1,"down":["berlin","rome"]}
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The one version that there is. A line of another is not understood, and then every cluster is trusted.
const VERSION: u32 = 1;
/// Longest line in bytes: every peer that a device may have, each with a cluster ID of 63 bytes, quotes and a comma.
pub(super) const LINE_MAX: u64 = tunnel::config::MAX_PEERS as u64 * 66 + 256;

#[derive(Serialize, Deserialize)]
struct Message<Names> {
    version: u32,
    down: Names,
}

/// A line, with its end, that names the clusters whose paths are down.
pub(super) fn line(down: &BTreeSet<String>) -> Vec<u8> {
    // A list of strings always has a JSON form; an empty line would only be misunderstood, and trusted all.
    let mut line = serde_json::to_vec(&Message { version: VERSION, down }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a line. Only names that `known` holds are taken.
///
/// # Errors
/// What is wrong with it, in words without any of its bytes.
pub(super) fn read(line: &[u8], known: &BTreeSet<String>) -> Result<BTreeSet<String>, &'static str> {
    if !line.ends_with(b"\n") {
        return Err("its line does not end");
    }
    let message: Message<BTreeSet<String>> =
        serde_json::from_slice(line).map_err(|_| "its line is no message of path states")?;
    if message.version != VERSION {
        return Err("its message is of another version");
    }
    Ok(known.iter().filter(|cluster| message.down.contains(cluster.as_str())).cloned().collect())
}

/// Reads any bytes as such a line. For fuzzing: must not panic, and takes no name that is not known.
pub fn fuzz_path_states(bytes: &[u8]) {
    let known = BTreeSet::from(["berlin".to_owned(), "rome".to_owned()]);
    if let Ok(down) = read(bytes, &known) {
        assert!(down.is_subset(&known), "a stranger's name was taken");
        assert_eq!(read(&line(&down), &known), Ok(down), "what is written is read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_line_is_json_and_is_read_again() {
        let down = set(&["berlin", "rome"]);
        assert_eq!(line(&down), b"{\"version\":1,\"down\":[\"berlin\",\"rome\"]}\n");
        assert_eq!(read(&line(&down), &set(&["berlin", "oslo", "rome"])), Ok(down));
    }

    #[test]
    fn names_that_are_no_peers_are_passed_over_and_fields_of_later_programs_too() {
        let text = b"{\"version\":1,\"since\":3,\"down\":[\"paris\",\"ber\\u006cin\",\"\\n\"]}\n";
        assert_eq!(read(text, &set(&["berlin"])), Ok(set(&["berlin"])));
    }

    #[test]
    fn other_versions_and_other_bytes_are_refused() {
        for bad in [
            &b"{\"version\":2,\"down\":[]}\n"[..],
            b"{\"version\":1,\"down\":[]}",
            b"\n",
            b"{\"down\":[]}\n",
            b"\xff\n",
        ] {
            assert!(read(bad, &set(&["berlin"])).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_longest_message_fits_a_line() {
        let all = (0..tunnel::config::MAX_PEERS).map(|n| format!("{n:063}")).collect();
        assert!(line(&all).len() as u64 <= LINE_MAX);
    }
}

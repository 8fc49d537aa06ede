//! `linkspan genkey` and `linkspan pubkey`.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args as ClapArgs;
use rand::TryRngCore as _;
use tunnel::config::PrivateKey;
use zeroize::Zeroizing;

const GENKEY: &str = "\
Examples:
  Make a key file that only its owner can read, and print the public key for the other clusters:
    linkspan genkey private.key

  Make a key that both ends of one tunnel share (presharedKeyFile):
    linkspan genkey psk.key

  As `wg genkey` does:
    linkspan genkey | tee private.key | linkspan pubkey";

/// Make a private key.
#[derive(Debug, ClapArgs)]
#[command(after_help = GENKEY)]
pub(super) struct Genkey {
    /// Where it is written, readable by the owner only; an existing file is never overwritten. The public key is
    /// printed then. Without a file, the private key is printed.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

const PUBKEY: &str = "\
Examples:
  linkspan pubkey private.key
  linkspan pubkey < private.key";

/// Print the public key of a private key.
#[derive(Debug, ClapArgs)]
#[command(after_help = PUBKEY)]
pub(super) struct Pubkey {
    /// File with the private key. Default: standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn genkey(args: Genkey) -> anyhow::Result<()> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::rngs::OsRng.try_fill_bytes(bytes.as_mut()).context("the kernel gave no random bytes")?;
    // Clamped as `wg genkey` does it, so that other tools show the same key (RFC 7748, section 5).
    bytes[0] &= 248;
    bytes[31] = bytes[31] & 127 | 64;
    let key = PrivateKey::from_bytes(*bytes);
    let text = Zeroizing::new(format!("{}\n", key.dangerously_to_base64()));
    match args.file {
        None => super::print(&text),
        Some(file) => {
            write_new(&file, &text).with_context(|| format!("failed to write the key file {}", file.display()))?;
            super::print(&format!("{}\n", key.public_key()))
        }
    }
}

fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

pub(super) fn pubkey(args: Pubkey) -> anyhow::Result<()> {
    let key: PrivateKey = match args.file {
        Some(file) => crate::site::read_key("the private key", &file)?,
        None => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin().take(4096).read_to_string(&mut text).context("failed to read standard input")?;
            text.parse().context("standard input holds no private key")?
        }
    };
    super::print(&format!("{}\n", key.public_key()))
}

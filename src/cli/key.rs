//! `linkspan genkey` and `linkspan pubkey`.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use tunnel::config::PrivateKey;
use zeroize::Zeroizing;

const GENKEY: &str = "\
Examples:
  Make a key file that only its owner can read, and print the public key for the others:
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
    let key = crate::keys::generate()?;
    match args.file {
        None => super::print(&crate::keys::text(&key)),
        Some(file) => {
            crate::keys::write_new(&file, &key)?;
            super::print(&format!("{}\n", key.public_key()))
        }
    }
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

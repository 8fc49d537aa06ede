//! What can go wrong with a device as a whole.

use std::io;

use crate::io::tun::TUN_DEVICE;

/// Why a device could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration is out of its range.
    #[error("tunnel configuration: {0}")]
    Config(String),
    /// The device of which TUN links are made could not be opened.
    #[error("failed to open {TUN_DEVICE}: {source}{hint}")]
    TunDevice {
        /// The kernel's answer.
        source: io::Error,
        /// The likely fix, with its separator; or empty.
        hint: &'static str,
    },
    /// The TUN link could not be made or adopted.
    #[error("failed to open TUN link {link}: {source}{hint}")]
    Tun {
        /// The link's name.
        link: String,
        /// The kernel's answer.
        source: io::Error,
        /// The likely fix, with its separator; or empty.
        hint: &'static str,
    },
    /// A UDP port could not be had.
    #[error("failed to bind UDP port {port}: {source}{hint}")]
    Bind {
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
        /// The likely fix, with its separator; or empty.
        hint: &'static str,
    },
    /// A thread or descriptor could not be had.
    #[error("failed to start lane {lane}: {source}")]
    Lane {
        /// Number of the lane.
        lane: u8,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Whether somebody else holds what is needed, who may let go of it in a moment: the process before this one, when it
    /// was killed just now.
    pub fn is_held(&self) -> bool {
        match self {
            Self::Tun { source, .. } => {
                matches!(source.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::ArgumentListTooLong)
            }
            Self::Bind { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::Config(_) | Self::TunDevice { .. } | Self::Lane { .. } => false,
        }
    }

    pub(crate) fn tun_device(source: io::Error) -> Self {
        let hint = match source.raw_os_error() {
            // To open it takes no capability: a control group refuses, which is the container runtime's.
            Some(libc::EPERM) => {
                "; the container runtime does not allow it: runc 1.2.0 to 1.2.3 and old versions of crun do not; update it"
            }
            Some(libc::EACCES) => "; its mode or SELinux does not allow it: run as root, or under another SELinux type",
            Some(libc::ENOENT | libc::ENODEV) => "; it is missing: load the tun module or mount the device",
            _ => "",
        };
        Self::TunDevice { source, hint }
    }

    pub(crate) fn tun(link: &str, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => "; run as root or with CAP_NET_ADMIN",
            io::ErrorKind::ResourceBusy => "; another process holds the link: is linkspan running already?",
            io::ErrorKind::InvalidInput => {
                "; a link of that name but of another kind exists, or the name is not 1 to 15 bytes"
            }
            _ => "",
        };
        Self::Tun { link: link.to_owned(), source, hint }
    }

    pub(crate) fn bind(port: u16, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => "; another program uses the port: choose another, or stop it",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "",
        };
        Self::Bind { port, source, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_open_the_device_is_told_something_else_than_who_may_not_make_a_link() {
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(
            Error::tun_device(refused()).to_string(),
            "failed to open /dev/net/tun: Operation not permitted (os error 1); the container runtime does not allow it: \
             runc 1.2.0 to 1.2.3 and old versions of crun do not; update it"
        );
        assert_eq!(
            Error::tun("linkspan0", refused()).to_string(),
            "failed to open TUN link linkspan0: Operation not permitted (os error 1); run as root or with CAP_NET_ADMIN"
        );
        let forbidden = Error::tun_device(io::Error::from_raw_os_error(libc::EACCES)).to_string();
        assert!(forbidden.contains("SELinux") && !forbidden.contains("runc"), "{forbidden}");
    }
}

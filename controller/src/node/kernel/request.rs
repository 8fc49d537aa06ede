//! Netlink requests: dumps and single changes.

use std::io;

use futures::StreamExt as _;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::Kernel;

/// The kernel refused a request.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// With an error number; see `errno(3)`.
    #[error("{cause}{}", hint(cause))]
    Refused {
        /// The error number.
        cause: io::Error,
    },
    /// The netlink connection ended: its future was dropped or its socket failed.
    #[error("the netlink connection is closed")]
    Closed,
    /// No link of that name.
    #[error("link {0} does not exist")]
    NoLink(String),
}

impl KernelError {
    /// The error number, when the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { cause } => cause.raw_os_error(),
            Self::Closed | Self::NoLink(_) => None,
        }
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM) => ": needs CAP_NET_ADMIN in this network namespace",
        Some(libc::EOPNOTSUPP) => ": the kernel lacks a module for it, such as vxlan or ip_tunnel",
        Some(libc::EADDRINUSE) => ": another program uses the UDP port",
        _ => "",
    }
}

impl Kernel {
    /// All objects that answer a `RTM_GET*` message. The kernel serves one dump per socket at a time.
    pub(super) async fn dump(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.exchange(message, NLM_F_DUMP).await
    }

    /// Makes one change and waits for its result. `flags` come besides request and acknowledgement.
    pub(super) async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), KernelError> {
        self.exchange(message, NLM_F_ACK | flags).await.map(drop)
    }

    /// The answers to one question.
    pub(super) async fn ask(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.exchange(message, 0).await
    }

    /// The link of this name.
    pub(super) async fn link(&self, name: &str) -> Result<LinkMessage, KernelError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.exchange(RouteNetlinkMessage::GetLink(request), 0).await {
            Err(error) if error.errno() == Some(libc::ENODEV) => Vec::new(),
            answers => answers?,
        };
        let link = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        link.ok_or_else(|| KernelError::NoLink(name.to_owned()))
    }

    async fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self.handle.clone().request(request).map_err(|_| KernelError::Closed)?;
        let mut objects = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(object) => objects.push(object),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(KernelError::Refused { cause: error.to_io() });
                }
                _ => {}
            }
        }
        Ok(objects)
    }
}

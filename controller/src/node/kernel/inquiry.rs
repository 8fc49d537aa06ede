//! Single questions to the kernel, answered before the call returns: for code that cannot await.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Room for an answer, in bytes. A link without its counters takes about 2 000.
const ANSWER: usize = 1 << 15;

/// A socket of the network namespace in which it was opened.
///
/// The kernel handles a request inside `send`, and gives one answer to a question that is no listing: it is there when
/// `send` returns.
pub(super) struct Inquiry {
    socket: Socket,
}

impl Inquiry {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        // Port 0 is the kernel (netlink(7)).
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    pub(super) fn ask(&self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let mut answer = Vec::<u8>::with_capacity(ANSWER);
        // What an earlier question that failed has left behind.
        while self.socket.recv(&mut answer, libc::MSG_DONTWAIT).is_ok() {
            answer.clear();
        }
        self.socket.send(&bytes, 0)?;
        self.socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::InnerMessage(object) => Ok(object),
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The link of an index; `None` when there is none.
    pub(super) fn link(&self, index: u32) -> io::Result<Option<LinkMessage>> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.ask(RouteNetlinkMessage::GetLink(request)) {
            Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_told_by_its_index() {
        let inquiry = Inquiry::open().unwrap();
        // Loopback is the first link of every network namespace (`LOOPBACK_IFINDEX` of `net/flow.h`).
        let loopback = inquiry.link(1).unwrap().unwrap();
        assert!(loopback.attributes.contains(&LinkAttribute::IfName("lo".into())), "{loopback:?}");
        assert!(inquiry.link(i32::MAX.unsigned_abs()).unwrap().is_none());
        // An error leaves nothing behind that the next question would take for its answer.
        assert_eq!(inquiry.link(1).unwrap().unwrap().header.index, 1);
    }
}

//! From a question on the wire to an answer on the wire. hickory reads and writes messages; the zone decides.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode, emit_message_parts};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record, RecordType as WireType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncoder};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tracing::debug;

use crate::name::{MAX_NAME, Name, push_label};
use crate::stats::{Event, Stats};
use crate::zone::{Answer, RecordType, Records, Soa, Srv, Zone};

/// Largest datagram that is sent, in bytes, and that clients are told to send: fits every path without fragments (DNS
/// flag day 2020).
pub(crate) const MAX_DATAGRAM: u16 = 1232;
/// Largest datagram for a client that tells no size (RFC 1035, section 4.2.1), and the least that any may tell (RFC
/// 6891, 6.2.3).
const PLAIN_DATAGRAM: u16 = 512;
/// At most this many targets of an SRV answer bring their addresses along; further ones are asked for.
const MAX_ADDITIONAL_TARGETS: usize = 64;

/// Everything that answers, shared by all workers.
pub(crate) struct Responder {
    zone: ArcSwapOption<Published>,
    stats: Arc<Stats>,
    /// Seed of the next shuffle. Each answer takes one, without a lock.
    seed: AtomicU64,
}

/// A zone with what every negative answer needs, made once.
struct Published {
    zone: Arc<Zone>,
    soa: Record,
}

/// The sections of one answer.
#[derive(Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Reply {
    fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

/// Why a question gets no look at the zone.
enum Refusal {
    Code(ResponseCode),
    /// An answer was sent to us: answering it could start a loop.
    Silence,
}

impl Responder {
    /// A responder without a zone: it answers SERVFAIL. `seed` starts the order of answers.
    pub(crate) fn new(seed: u64, stats: Arc<Stats>) -> Self {
        Self { zone: ArcSwapOption::empty(), stats, seed: AtomicU64::new(seed) }
    }

    /// Puts a zone in service, or takes the last one out.
    pub(crate) fn publish(&self, zone: Option<Arc<Zone>>) {
        let published = zone.map(|zone| {
            let soa =
                Record::from_rdata(wire_name(zone.origin()), zone.soa().minimum, RData::SOA(wire_soa(zone.soa())));
            Arc::new(Published { zone, soa })
        });
        self.zone.store(published);
        self.stats.count(Event::Zone);
    }

    /// Answers one datagram into `out`. False: there is nothing to send.
    pub(crate) fn answer_datagram(&self, datagram: &[u8], from: SocketAddr, out: &mut Vec<u8>) -> bool {
        out.clear();
        let (head, reply, request) = match self.read(datagram, from) {
            Ok(request) => (request.metadata, self.reply(&request), Some(request)),
            Err((_, Refusal::Silence)) => return false,
            Err((head, Refusal::Code(code))) => {
                self.stats.count(Event::Malformed);
                (head, Reply::code(code), None)
            }
        };
        self.stats.count(Event::UdpQuery);
        match write(&head, request.as_ref(), reply, out) {
            Ok(header) => {
                if header.truncation {
                    self.stats.count(Event::Truncated);
                }
                true
            }
            Err(error) => {
                debug!(%error, %from, "failed to write a DNS answer");
                false
            }
        }
    }

    /// Reads a question; the error has the header, as far as it could be read, and what to do.
    fn read(&self, datagram: &[u8], from: SocketAddr) -> Result<Request, (Metadata, Refusal)> {
        let header = Header::read(&mut BinDecoder::new(datagram)).map_err(|_| {
            // Less than a header has no ID that an answer could carry.
            (Metadata::new(0, MessageType::Query, OpCode::Query), Refusal::Silence)
        })?;
        let head = header.metadata;
        if head.message_type == MessageType::Response {
            return Err((head, Refusal::Silence));
        }
        if head.op_code != OpCode::Query {
            return Err((head, Refusal::Code(ResponseCode::NotImp)));
        }
        // Checked before the body is read: a count of 65 535 would make room for as many questions.
        if header.counts.queries != 1 {
            return Err((head, Refusal::Code(ResponseCode::FormErr)));
        }
        Request::from_bytes(datagram.to_vec(), from, Protocol::Udp).map_err(|error| {
            debug!(%error, %from, "malformed DNS question");
            (head, Refusal::Code(ResponseCode::FormErr))
        })
    }

    /// The sections that answer a question which could be read.
    fn reply(&self, request: &Request) -> Reply {
        let (event, reply) = self.decide(request);
        self.stats.count(event);
        reply
    }

    fn decide(&self, request: &Request) -> (Event, Reply) {
        if request.metadata.op_code != OpCode::Query {
            return (Event::Malformed, Reply::code(ResponseCode::NotImp));
        }
        let [query] = request.queries.queries() else {
            return (Event::Malformed, Reply::code(ResponseCode::FormErr));
        };
        if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return (Event::Malformed, Reply::code(ResponseCode::BADVERS));
        }
        let transfer = matches!(query.query_type(), WireType::AXFR | WireType::IXFR);
        if transfer || query.query_class() != DNSClass::IN {
            return (Event::Refused, Reply::code(ResponseCode::Refused));
        }
        let published = self.zone.load();
        match &*published {
            Some(published) => self.answer(published, query.original().name(), query.query_type()),
            None => (Event::NotSynced, Reply::code(ResponseCode::ServFail)),
        }
    }

    fn answer(&self, published: &Published, asked: &WireName, wire_type: WireType) -> (Event, Reply) {
        let mut key = Vec::with_capacity(MAX_NAME);
        asked.iter().for_each(|label| push_label(&mut key, label));
        key.push(0);
        let negative =
            |code| Reply { code, authoritative: true, authorities: vec![published.soa.clone()], ..Reply::default() };
        match published.zone.lookup_wire(&key, RecordType::from(u16::from(wire_type))) {
            Answer::Records(records) => (Event::Answered, self.positive(published, asked, records)),
            Answer::NoData => (Event::NoData, negative(ResponseCode::NoError)),
            Answer::NxDomain => (Event::NxDomain, negative(ResponseCode::NXDomain)),
            Answer::Refused => (Event::Refused, Reply::code(ResponseCode::Refused)),
        }
    }

    /// Records under the name as it was asked, letter case included.
    fn positive(&self, published: &Published, asked: &WireName, records: Records<'_>) -> Reply {
        let zone = &published.zone;
        let record = |data| Record::from_rdata(asked.clone(), zone.ttl(), data);
        let mut additionals = Vec::new();
        let answers = match records {
            Records::A(addresses) => self.shuffled(addresses).map(|address| record(RData::A(A(*address)))).collect(),
            Records::Aaaa(addresses) => {
                self.shuffled(addresses).map(|address| record(RData::AAAA(AAAA(*address)))).collect()
            }
            Records::Srv(locations) => {
                let locations: Vec<&Srv> = self.shuffled(locations).collect();
                additionals = target_addresses(zone, &locations);
                locations.into_iter().map(|srv| record(RData::SRV(wire_srv(srv)))).collect()
            }
            Records::Txt(text) => vec![record(RData::TXT(TXT::from_bytes(vec![text.as_bytes()])))],
            Records::Ns(name) => vec![record(RData::NS(NS(wire_name(name))))],
            Records::Soa(soa) => vec![record(RData::SOA(wire_soa(soa)))],
            Records::Any => vec![record(RData::HINFO(HINFO::from_bytes((*b"RFC8482").into(), (*b"").into())))],
        };
        Reply { code: ResponseCode::NoError, authoritative: true, answers, authorities: Vec::new(), additionals }
    }

    /// All values in random order, so that clients which take the first spread over all.
    fn shuffled<'a, T>(&self, values: &'a [T]) -> impl Iterator<Item = &'a T> {
        let mut order: Vec<&T> = values.iter().collect();
        if order.len() > 1 {
            order.shuffle(&mut StdRng::seed_from_u64(self.seed.fetch_add(1, Ordering::Relaxed)));
        }
        order.into_iter()
    }
}

/// The responder as hickory's server calls it.
pub(crate) struct TcpHandler(pub(crate) Arc<Responder>);

#[async_trait]
impl RequestHandler for TcpHandler {
    /// Answers over TCP, where hickory reads, frames and writes.
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        self.0.stats.count(Event::TcpQuery);
        let reply = self.0.reply(request);
        let metadata = answer_metadata(&request.metadata, &reply);
        let edns = request.edns.as_ref().map(answer_edns);
        let message = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &reply.answers,
            &reply.authorities,
            [],
            &reply.additionals,
        );
        response.send_response(message).await.unwrap_or_else(|error| {
            debug!(%error, from = %request.src(), "failed to send a DNS answer over TCP");
            Header { metadata, counts: HeaderCounts::default() }.into()
        })
    }
}

/// The addresses of the targets of SRV records, in the order of the records, each target once.
fn target_addresses(zone: &Zone, locations: &[&Srv]) -> Vec<Record> {
    let mut seen = BTreeSet::new();
    let targets = locations.iter().map(|srv| &srv.target).filter(|target| seen.insert(*target));
    let mut additionals = Vec::new();
    for target in targets.take(MAX_ADDITIONAL_TARGETS) {
        let (v4, v6) = zone.addresses(target);
        let owner = wire_name(target);
        let data = v4.iter().map(|address| RData::A(A(*address)));
        let data = data.chain(v6.iter().map(|address| RData::AAAA(AAAA(*address))));
        additionals.extend(data.map(|data| Record::from_rdata(owner.clone(), zone.ttl(), data)));
    }
    additionals
}

/// Writes the answer to a datagram, cut to what the client takes. The OPT record always has room.
fn write(
    head: &Metadata,
    request: Option<&Request>,
    reply: Reply,
    out: &mut Vec<u8>,
) -> Result<Header, hickory_proto::ProtoError> {
    let metadata = answer_metadata(head, &reply);
    let edns = request.and_then(|request| request.edns.as_ref()).map(answer_edns);
    let queries = request.map_or(&[][..], |request| request.queries.queries());
    let limit = request.map_or(PLAIN_DATAGRAM, |request| request.max_payload().clamp(PLAIN_DATAGRAM, MAX_DATAGRAM));
    let mut emit = |metadata: &Metadata, answers: &[Record], additionals: &[Record]| {
        out.clear();
        let mut encoder = BinEncoder::new(out);
        encoder.set_max_size(limit);
        emit_message_parts(
            metadata,
            &mut queries.iter(),
            &mut answers.iter(),
            &mut reply.authorities.iter(),
            &mut additionals.iter(),
            edns.as_ref(),
            None,
            &mut encoder,
        )
    };
    let whole = emit(&metadata, &reply.answers, &reply.additionals)?;
    if !whole.truncation {
        return Ok(whole);
    }
    if usize::from(whole.counts.answers) == reply.answers.len() {
        // Additional records are a courtesy: without them the answer is whole (RFC 2181, section 9).
        let bare = emit(&metadata, &reply.answers, &[])?;
        if !bare.truncation {
            return Ok(bare);
        }
    }
    // As many records as fit beside OPT: clients that cannot ask again over TCP use what they get. OPT without options
    // has 11 bytes, the smallest record (a pointer and an IPv4 address) 16: one record makes room for it.
    let fits = usize::from(whole.counts.answers).saturating_sub(usize::from(edns.is_some()));
    let mut metadata = metadata;
    metadata.truncation = true;
    emit(&metadata, &reply.answers[..fits], &[])
}

fn answer_metadata(head: &Metadata, reply: &Reply) -> Metadata {
    let mut metadata = Metadata::response_from_request(head);
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata
}

/// The OPT record of an answer: our size and version, and the client's DO bit (RFC 3225).
fn answer_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

fn wire_name(name: &Name) -> WireName {
    WireName::from_bytes(name.wire()).expect("a zone's names are legal on the wire")
}

fn wire_srv(srv: &Srv) -> SRV {
    SRV::new(srv.priority, srv.weight, srv.port, wire_name(&srv.target))
}

fn wire_soa(soa: &Soa) -> SOA {
    // The times are constants of the builder, far below 2^31.
    let seconds = |time: u32| i32::try_from(time).unwrap_or(i32::MAX);
    let (refresh, retry, expire) = (seconds(soa.refresh), seconds(soa.retry), seconds(soa.expire));
    SOA::new(wire_name(&soa.mname), wire_name(&soa.rname), soa.serial, refresh, retry, expire, soa.minimum)
}

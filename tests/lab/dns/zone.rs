//! What the names of the lab answer. Everything here is under `example`, which nobody owns.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use hickory_proto::rr::RecordType;

use super::reply::{How, Reply, alias, https, mail, text};

/// The address that the allowed and the refused site share.
pub const SHARED_V4: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// The same in IPv6.
pub const SHARED_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x220, 1, 0, 0, 0, 0x34);
/// The address of everything under `wild.example`.
pub const WILD_V4: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 50);
/// The address of names that no policy lists.
pub const STRANGE_V4: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 66);
/// How many addresses `many.example` has.
pub const MANY: u8 = 8;
/// How many addresses each answer for `churn.example` has.
pub const CHURN: u32 = 20;
/// How many addresses `huge.example` has: more than any datagram holds, and about as many as a
/// message over TCP does.
pub const HUGE: u16 = 4_000;
/// Aliases before the address of `chain.example`.
pub const CHAIN: u8 = 4;
/// Aliases before the address of `long-chain.example`: more than anybody should follow.
pub const LONG_CHAIN: u8 = 40;

const LATE: Duration = Duration::from_millis(1_500);

/// What is asked for, and how often it was.
#[derive(Debug, Default)]
pub(super) struct Zone {
    own: BTreeMap<String, Reply>,
    times: BTreeMap<String, u32>,
}

impl Zone {
    pub(super) fn set(&mut self, name: &str, reply: Reply) {
        self.own.insert(name.to_owned(), reply);
    }

    /// The answer for a name in lower case.
    pub(super) fn ask(&mut self, name: &str, record: RecordType) -> Reply {
        if let Some(reply) = self.own.get(name) {
            return reply.clone().of_type(record);
        }
        if let Some(reply) = measured(name) {
            return reply.of_type(record);
        }
        // Both families of one lookup are one time.
        let key = format!("{name} {record}");
        let times = self.times.entry(key).or_default();
        *times += 1;
        let time = *times;
        ordinary(name)
            .or_else(|| special(name))
            .or_else(|| changing(name, time))
            .or_else(|| hostile(name))
            .or_else(|| wild(name))
            .unwrap_or_else(|| Reply::empty(How::NoName))
            .of_type(record)
    }
}

fn shared(name: &str) -> Reply {
    Reply::addresses(name, &[SHARED_V4.into(), SHARED_V6.into()])
}

fn v4(name: &str, last: u8) -> Reply {
    Reply::addresses(name, &[Ipv4Addr::new(93, 184, 216, last).into()])
}

fn ordinary(name: &str) -> Option<Reply> {
    Some(match name {
        "site.example" | "other.example" | "third.example" | "xn--bcher-kva.example" => {
            shared(name)
        }
        "v4.example" => v4(name, 36),
        "v6.example" => Reply::addresses(name, &[SHARED_V6.into()]),
        "apart.example" => v4(name, 40),
        "strange.example" | "wild.example" | "x.strange.example" => v4(name, 66),
        "many.example" => {
            let all = (0..MANY).flat_map(|number| {
                let v6 = SHARED_V6.segments();
                let last = u16::from(number) + 0x100;
                let v6 = Ipv6Addr::new(v6[0], v6[1], v6[2], v6[3], 0, 0, 0, last);
                [IpAddr::from([93, 184, 217, number]), v6.into()]
            });
            Reply::addresses(name, &all.collect::<Vec<_>>())
        }
        "huge.example" => {
            let all = (0..HUGE).map(|number| {
                let [high, low] = number.to_be_bytes();
                IpAddr::from([93, 190, high, low])
            });
            Reply::addresses(name, &all.collect::<Vec<_>>())
        }
        "zero.example" => v4(name, 41).ttl(0),
        "ages.example" => v4(name, 42).ttl(1 << 31),
        "longest.example" => v4(name, 43).ttl(u32::MAX),
        "late.example" => v4(name, 44).late(LATE),
        "chain.example" => chain(name, CHAIN, SHARED_V4.into()),
        "long-chain.example" => chain(name, LONG_CHAIN, SHARED_V4.into()),
        "texts.example" => {
            let mut reply = shared(name);
            let more = [text("the text"), mail("mail.texts.example"), https()];
            reply
                .records
                .extend(more.map(|data| (name.to_owned(), data)));
            reply
        }
        _ => return None,
    })
}

fn chain(name: &str, length: u8, end: IpAddr) -> Reply {
    let link = |number: u8| match number {
        0 => name.to_owned(),
        number => format!("link{number}.cdn.example"),
    };
    let mut reply = Reply::empty(How::Records);
    for number in 0..length {
        let (owner, target) = (link(number), link(number + 1));
        reply.records.push((owner, alias(&target)));
    }
    let last = Reply::addresses(&link(length), &[end]);
    reply.records.extend(last.records);
    reply
}

/// Answers that lead into networks which no name may lead into.
fn special(name: &str) -> Option<Reply> {
    let addresses = |all: &[&str]| {
        let all: Vec<IpAddr> = all.iter().filter_map(|ip| ip.parse().ok()).collect();
        Some(Reply::addresses(name, &all))
    };
    match name {
        "private.example" => addresses(&["10.1.2.3", "192.168.1.1", "fd00:1::5"]),
        "metadata.example" => addresses(&["169.254.169.254", "fd00:ec2::254"]),
        "loopback.example" => addresses(&["127.0.0.1", "::1"]),
        "this-host.example" => addresses(&["45.33.32.2", "2600:3c01::2"]),
        "mapped.example" => addresses(&["::ffff:10.1.2.3", "::ffff:169.254.169.254"]),
        "embedded.example" => addresses(&["64:ff9b::a9fe:a9fe", "2002:a01:203::1", "2001:0:a::1"]),
        "unspecified.example" => addresses(&["0.0.0.0", "::"]),
        "mixed.example" => addresses(&["93.184.216.45", "10.1.2.3"]),
        "behind-door.example" => addresses(&["10.20.0.5"]),
        "private-zone.example" => {
            let inner = "db.corp.example";
            let mut reply = Reply::addresses(inner, &[Ipv4Addr::new(10, 0, 0, 7).into()]);
            reply.records.insert(0, (name.to_owned(), alias(inner)));
            Some(reply)
        }
        _ => None,
    }
}

/// Answers that are another each time.
fn changing(name: &str, time: u32) -> Option<Reply> {
    match name {
        "rebind.example" => {
            let ip: [u8; 4] = if time % 2 == 1 {
                [93, 184, 216, 46]
            } else {
                [169, 254, 169, 254]
            };
            Some(Reply::addresses(name, &[ip.into()]).ttl(0))
        }
        "churn.example" => {
            let all = (0..CHURN).map(|number| {
                let [_, _, high, low] = (time * CHURN + number).to_be_bytes();
                IpAddr::from([52, 216, high, low])
            });
            Some(Reply::addresses(name, &all.collect::<Vec<_>>()).ttl(0))
        }
        _ => None,
    }
}

fn hostile(name: &str) -> Option<Reply> {
    let how = match name {
        "wrong-id.example" => How::WrongId,
        "wrong-question.example" => How::WrongQuestion,
        "pointer-loop.example" => How::PointerLoop,
        "lies.example" => How::Lies,
        "cut-off.example" => How::CutOff,
        "silent.example" => How::Silent,
        "fails.example" => How::Fails,
        "refuses.example" => How::Refuses,
        "loop.example" | "loop2.example" => {
            let mut reply = Reply::empty(How::Records);
            for (owner, target) in [
                ("loop.example", "loop2.example"),
                ("loop2.example", "loop.example"),
            ] {
                reply.records.push((owner.to_owned(), alias(target)));
            }
            return Some(reply);
        }
        "foreign.example" => {
            // Records of a name that was not asked for.
            return Some(shared("strange.example"));
        }
        _ => return None,
    };
    Some(v4(name, 47).how(how))
}

fn wild(name: &str) -> Option<Reply> {
    name.strip_suffix(".wild.example")?;
    let mut reply = Reply::addresses(name, &[WILD_V4.into()]);
    reply.records.push((name.to_owned(), text("tunnelled")));
    Some(reply)
}

/// `nNUMBER.bench.example`: each name has an address of its own. `sNUMBER.bench.example`: a few
/// addresses for all of them.
fn measured(name: &str) -> Option<Reply> {
    let label = name.strip_suffix(".bench.example")?;
    let number = |text: &str| text.parse::<u32>().ok().map(u32::to_be_bytes);
    let address = if let Some(own) = label.strip_prefix('n') {
        let [_, block, high, low] = number(own)?;
        IpAddr::from([54, 80 + block, high, low])
    } else {
        let [_, _, _, low] = number(label.strip_prefix('s')?)?;
        IpAddr::from([93, 184, 220, low])
    };
    Some(Reply::addresses(name, &[address]))
}

//! The grammars of configuration values: text -> value or what is wrong with it. Pure, fuzzed.

use crate::addr::Target;
use ipnet::IpNet;
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

/// What is wrong with a value; says what would be right.
pub type Reason = String;

/// Listeners take at most one address of each family.
const MAX_LISTENERS: usize = 2;

/// `10s`, `300ms`, `0`; units are `ms`, `s`, `m`, `h`, `d`.
pub fn duration(s: &str) -> Result<Duration, Reason> {
    let wrong = || format!("{s:?} is not a duration: write a whole number and ms, s, m, h or d");
    let s = s.trim();
    let digits = s.bytes().take_while(u8::is_ascii_digit).count();
    let n: u64 = s[..digits].parse().map_err(|_| wrong())?;
    let millis = match &s[digits..] {
        "ms" => Some(n),
        "s" => n.checked_mul(1_000),
        "m" => n.checked_mul(60_000),
        "h" => n.checked_mul(3_600_000),
        "d" => n.checked_mul(86_400_000),
        "" if n == 0 => Some(0),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

/// Exactly `true` or `false`.
pub fn boolean(s: &str) -> Result<bool, Reason> {
    s.parse()
        .map_err(|_| format!("{s:?} is neither \"true\" nor \"false\""))
}

/// A whole number that fits `T`.
pub fn number<T: std::str::FromStr>(s: &str) -> Result<T, Reason> {
    s.parse()
        .map_err(|_| format!("{s:?} is not a whole number in range"))
}

/// `IP:PORT` or `[IPv6]:PORT`.
pub fn socket_addr(s: &str) -> Result<SocketAddr, Reason> {
    s.parse()
        .map_err(|_| format!("{s:?} is not an address: write IP:PORT or [IPv6]:PORT"))
}

/// One or two socket addresses.
pub fn listen_addrs(s: &str) -> Result<Vec<SocketAddr>, Reason> {
    let addrs: Vec<_> = items(s).map(socket_addr).collect::<Result<_, _>>()?;
    match addrs.len() {
        1..=MAX_LISTENERS => Ok(addrs),
        n => Err(format!(
            "{n} addresses; one or two (IPv4 and IPv6) are wanted"
        )),
    }
}

/// `NAME:PORT` or `IP:PORT`.
pub fn target(s: &str) -> Result<Target, Reason> {
    Target::parse(s).ok_or_else(|| format!("{s:?} is not NAME:PORT or IP:PORT"))
}

/// `80,443,1000-2000`.
pub fn ports(s: &str) -> Result<HashSet<u16>, Reason> {
    let mut set = HashSet::new();
    for item in items(s) {
        set.extend(port_range(item)?);
    }
    Ok(set)
}

fn port_range(s: &str) -> Result<RangeInclusive<u16>, Reason> {
    let wrong = || format!("{s:?} is neither a port nor a range LOW-HIGH");
    let (low, high) = s.split_once('-').unwrap_or((s, s));
    let parse = |p: &str| p.trim().parse::<u16>().ok().filter(|p| *p > 0);
    match (parse(low), parse(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err(wrong()),
    }
}

/// `10.0.0.1,fd00::1`; empty is an error.
pub fn ips(s: &str) -> Result<HashSet<IpAddr>, Reason> {
    let parse = |ip: &str| {
        ip.parse()
            .map_err(|_| format!("{ip:?} is not an IP address"))
    };
    s.split(',').map(parse).collect()
}

/// `10.0.0.0/8,192.168.1.1`.
pub fn networks(s: &str) -> Result<Vec<IpNet>, Reason> {
    let parse = |net: &str| {
        let parsed = net
            .parse()
            .or_else(|_| net.parse::<IpAddr>().map(IpNet::from));
        parsed.map_err(|_| format!("{net:?} is neither a network IP/LEN nor an IP address"))
    };
    items(s).map(parse).collect()
}

/// `svc.cluster.local.,example.org`; `.` stands for every name. Kept without the final dot.
pub fn dns_suffixes(s: &str) -> Result<Vec<String>, Reason> {
    items(s)
        .map(|suffix| {
            let name = suffix.trim_matches('.').to_ascii_lowercase();
            let valid = suffix == "." || crate::addr::is_dns_name(&name);
            valid
                .then_some(name)
                .ok_or_else(|| format!("{suffix:?} is not a DNS suffix"))
        })
        .collect()
}

/// `LISTEN=VALUE,...`, each `LISTEN` an address of its own.
pub fn port_map<T>(
    s: &str,
    value: impl Fn(&str) -> Result<T, Reason>,
) -> Result<Vec<(SocketAddr, T)>, Reason> {
    let mut map: Vec<(SocketAddr, T)> = Vec::new();
    for item in items(s) {
        let (listen, to) = item
            .split_once('=')
            .ok_or_else(|| format!("{item:?} is not LISTEN-ADDRESS=TARGET"))?;
        let listen = socket_addr(listen.trim())?;
        if map.iter().any(|(known, _)| *known == listen) {
            return Err(format!("{listen} is mapped twice"));
        }
        map.push((listen, value(to.trim())?));
    }
    Ok(map)
}

/// The items of a comma list, trimmed, without empty ones.
fn items(s: &str) -> impl Iterator<Item = &str> {
    s.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration(" 300ms "), Ok(Duration::from_millis(300)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["1", "1.5s", "-1s", "s", "", "99999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ports_are_single_or_ranges() {
        assert_eq!(
            ports("80, 443 ,,1000-1002"),
            Ok(HashSet::from([80, 443, 1000, 1001, 1002]))
        );
        for bad in ["0", "70000", "9-8", "a", "1-"] {
            assert!(ports(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn port_maps_name_the_bad_item() {
        let map = port_map("127.0.0.1:1=127.0.0.1:2, [::1]:3=127.0.0.1:4", socket_addr).unwrap();
        assert_eq!(map.len(), 2);
        let twice = port_map(
            "127.0.0.1:1=127.0.0.1:2,127.0.0.1:1=127.0.0.1:4",
            socket_addr,
        );
        assert_eq!(twice, Err("127.0.0.1:1 is mapped twice".into()));
        assert!(
            port_map("127.0.0.1:1", socket_addr)
                .unwrap_err()
                .contains("127.0.0.1:1")
        );
    }

    #[test]
    fn suffixes_are_kept_without_their_dots() {
        assert_eq!(
            dns_suffixes("svc.Cluster.local., ."),
            Ok(vec!["svc.cluster.local".into(), "".into()])
        );
        assert!(dns_suffixes("a b").is_err());
    }

    #[test]
    fn listeners_are_one_or_two() {
        assert_eq!(listen_addrs("127.0.0.1:1,[::1]:1").unwrap().len(), 2);
        assert!(listen_addrs("").is_err());
        assert!(listen_addrs("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(s in "\\PC{0,40}") {
            let _ = (duration(&s), ports(&s), ips(&s), networks(&s), dns_suffixes(&s), target(&s));
            let _ = port_map(&s, target);
        }
    }
}

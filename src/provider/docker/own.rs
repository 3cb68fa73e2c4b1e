//! Which container we run in ourselves, and where the host is.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use tokio::{net::lookup_host, time::timeout};

/// How the identifier of our container begins, if this looks like one.
pub(super) async fn container() -> Option<String> {
    let mounts = tokio::fs::read_to_string("/proc/self/mountinfo").await;
    let groups = tokio::fs::read_to_string("/proc/self/cgroup").await;
    by_mounts(&mounts.unwrap_or_default())
        .or_else(|| identifier(&groups.unwrap_or_default()))
        .or_else(|| {
            let name = rustix::system::uname();
            let name = name.nodename().to_string_lossy().into_owned();
            (name.len() == SHORT && is_hex(&name)).then_some(name)
        })
}

/// Engines mount a few files of ours from a folder that has the container's identifier for a name.
fn by_mounts(mounts: &str) -> Option<String> {
    let mut lines = mounts.lines();
    lines.find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (source, target) = (fields.next()?, fields.next()?);
        let ours = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&target);
        ours.then(|| identifier(source)).flatten()
    })
}

/// The first full identifier in a text.
fn identifier(text: &str) -> Option<String> {
    let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let word = words.find(|word| word.len() == FULL && is_hex(word));
    word.map(str::to_owned)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|letter| letter.is_ascii_hexdigit())
}

/// Where ports of the host are reached: under the names that engines give it inside containers, else here.
pub(super) async fn host() -> IpAddr {
    for name in ["host.docker.internal", "host.containers.internal"] {
        if let Ok(Ok(mut found)) = timeout(PATIENCE, lookup_host((name, 0))).await
            && let Some(address) = found.next()
        {
            return address.ip();
        }
    }
    Ipv4Addr::LOCALHOST.into()
}

const FULL: usize = 64;
const SHORT: usize = 12;
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_known_by_its_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let mounts = format!(
            "1 2 0:1 / / rw - overlay overlay rw\n\
             3 2 8:1 /docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(by_mounts(&mounts), Some(id.clone()));
        // The mounts of a host name the containers that run on it.
        let host = format!("1 2 0:1 / /var/lib/docker/containers/{id}/mounts rw - shm shm rw\n");
        assert_eq!(by_mounts(&host), None);
        assert_eq!(identifier(&format!("12:pids:/docker/{id}\n")), Some(id));
        assert_eq!(identifier("0::/init.scope\n"), None);
    }
}

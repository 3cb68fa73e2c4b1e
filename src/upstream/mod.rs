//! Sockets out: dial, pools, probes.

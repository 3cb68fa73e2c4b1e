//! Where to: services, servers, balancers, health.

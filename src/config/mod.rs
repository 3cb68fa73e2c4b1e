//! Plain configuration data and its parsing; imports nothing of ours.

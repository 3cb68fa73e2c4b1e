//! Forwarding headers: who may set them, what we set, and which fields end at a hop.

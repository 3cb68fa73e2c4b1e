//! One request and its response: leaf types the traffic rooms share.

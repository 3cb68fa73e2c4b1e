//! Worker threads (traffic) and the control thread.

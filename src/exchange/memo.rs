//! Header values that were costly to compute and hold for a whole connection.

use std::cell::RefCell;

use http::HeaderValue;

/// Values by a number of whoever computed them. Costs nothing on a connection that keeps none.
#[derive(Debug, Default)]
pub struct Memo(RefCell<Vec<(u64, Option<HeaderValue>)>>);

impl Memo {
    /// The value under `key`, computed when it is asked for first.
    pub fn get(
        &self,
        key: u64,
        compute: impl FnOnce() -> Option<HeaderValue>,
    ) -> Option<HeaderValue> {
        let mut values = self.0.borrow_mut();
        if let Some((_, value)) = values.iter().find(|(known, _)| *known == key) {
            return value.clone();
        }
        let value = compute();
        if values.len() == AT_MOST {
            values.remove(0);
        }
        values.push((key, value.clone()));
        value
    }
}

/// A connection sees few routes, but may outlive many configurations.
const AT_MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_once_and_stays_small() {
        let memo = Memo::default();
        let value = |text| Some(HeaderValue::from_static(text));
        assert_eq!(memo.get(1, || value("a")), value("a"));
        assert_eq!(memo.get(1, || value("b")), value("a"));
        assert_eq!(memo.get(2, || None), None);
        assert_eq!(memo.get(2, || value("c")), None);
        for key in 3..20 {
            memo.get(key, || None);
        }
        assert_eq!(memo.0.borrow().len(), AT_MOST);
        assert_eq!(memo.get(1, || value("b")), value("b"));
    }
}

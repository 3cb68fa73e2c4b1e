//! Which of several services a request goes to: by turns or by the client's address, unless a cookie says it.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue};

use super::{
    balancer::{Balancer, Strategy},
    sticky::{Named, Sticky, StickyName, StickySettings},
};

/// Chooses among services by their positions.
#[derive(Debug)]
pub struct Choice {
    balancer: Balancer,
    sticky: Option<Sticky>,
}

/// What a choice is made from.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceSettings<'a> {
    /// Qualified name of the service that chooses.
    pub service: &'a str,
    /// [`Strategy::RoundRobin`] or [`Strategy::Rendezvous`].
    pub strategy: Strategy,
    /// The services as they were written, with their weights.
    pub services: &'a [(Arc<str>, i64)],
    pub sticky: Option<&'a StickySettings>,
}

/// A service chosen.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    pub index: usize,
    /// To be appended to the response as `Set-Cookie`.
    pub set_cookie: Option<HeaderValue>,
}

impl Choice {
    /// A choice that goes on where `previous`, that of the same service in the last snapshot, is.
    pub fn new(settings: ChoiceSettings<'_>, previous: Option<&Self>) -> Self {
        let (names, weights): (Vec<Arc<str>>, Vec<i64>) = settings.services.iter().cloned().unzip();
        let cursor = previous.map(|choice| Arc::clone(choice.balancer.cursor()));
        let cookies: Vec<StickyName> = names
            .iter()
            .map(|name| StickyName {
                own: Arc::clone(name),
                shared: None,
            })
            .collect();
        Self {
            balancer: Balancer::new(
                settings.strategy,
                &weights,
                &names,
                cursor.unwrap_or_default(),
            ),
            sticky: settings
                .sticky
                .map(|sticky| Sticky::new(sticky, settings.service, &cookies)),
        }
    }

    /// Chooses a service that is `up`; if none is, one as if all were, because who is not up knows best what to answer. `None` if none
    /// has a weight.
    pub fn pick(
        &self,
        client: IpAddr,
        headers: &HeaderMap,
        up: impl Fn(usize) -> bool,
    ) -> Option<Chosen> {
        let open = |index: usize| self.balancer.counts(index) && up(index);
        let named = self.sticky.as_ref().and_then(|sticky| sticky.find(headers));
        match named {
            Some(Named::Server(index)) if open(*index) => {
                return Some(Chosen {
                    index: *index,
                    set_cookie: None,
                });
            }
            Some(Named::Legacy(index)) if open(*index) => return Some(self.chosen(*index)),
            _ => {}
        }
        self.balancer
            .choose(client, up)
            .or_else(|| self.balancer.choose(client, |_| true))
            .map(|index| self.chosen(index))
    }

    /// Whether the service at `index` takes part at all.
    pub fn counts(&self, index: usize) -> bool {
        self.balancer.counts(index)
    }

    /// Whether clients are kept on their services by a cookie.
    pub fn is_sticky(&self) -> bool {
        self.sticky.is_some()
    }

    fn chosen(&self, index: usize) -> Chosen {
        Chosen {
            index,
            set_cookie: self.sticky.as_ref().and_then(|sticky| sticky.cookie(index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    fn services(weights: &[(&str, i64)]) -> Vec<(Arc<str>, i64)> {
        let service = |(name, weight): &(&str, i64)| (Arc::from(*name), *weight);
        weights.iter().map(service).collect()
    }

    fn choice(strategy: Strategy, weights: &[(&str, i64)], sticky: bool) -> Choice {
        let settings = StickySettings::default();
        let services = services(weights);
        let settings = ChoiceSettings {
            service: "w@file",
            strategy,
            services: &services,
            sticky: sticky.then_some(&settings),
        };
        Choice::new(settings, None)
    }

    fn turns(choice: &Choice, count: usize, up: impl Fn(usize) -> bool) -> Vec<Option<usize>> {
        let client = "192.0.2.7".parse().unwrap();
        let turn = |_| choice.pick(client, &HeaderMap::new(), &up);
        (0..count)
            .map(turn)
            .map(|chosen| chosen.map(|it| it.index))
            .collect()
    }

    #[test]
    fn turns_go_by_weight_to_those_that_are_up() {
        let three = [("a", 3), ("b", 1), ("never", 0), ("less", -1)];
        let four =
            |up: fn(usize) -> bool| turns(&choice(Strategy::RoundRobin, &three, false), 4, up);
        assert_eq!(four(|_| true), [Some(0), Some(0), Some(1), Some(0)]);
        assert_eq!(four(|index| index != 0), [Some(1); 4]);
        // Those that are down say so themselves.
        assert_eq!(four(|_| false), [Some(0), Some(0), Some(1), Some(0)]);
        let none = choice(Strategy::RoundRobin, &[("a", 0)], false);
        assert_eq!(turns(&none, 1, |_| true), [None]);
    }

    #[test]
    fn a_successor_goes_on_with_the_round() {
        let services = services(&[("a", 1), ("b", 1)]);
        let settings = ChoiceSettings {
            service: "w@file",
            strategy: Strategy::RoundRobin,
            services: &services,
            sticky: None,
        };
        let before = Choice::new(settings, None);
        assert_eq!(turns(&before, 3, |_| true), [Some(0), Some(1), Some(0)]);
        let after = Choice::new(settings, Some(&before));
        assert_eq!(turns(&after, 2, |_| true), [Some(1), Some(0)]);
    }

    #[test]
    fn a_client_belongs_to_one_service_while_that_is_up() {
        let choice = choice(Strategy::Rendezvous, &[("a", 1), ("b", 1), ("c", 5)], false);
        let own = turns(&choice, 1, |_| true)[0].unwrap();
        assert_eq!(turns(&choice, 3, |_| true), [Some(own); 3]);
        let other = turns(&choice, 1, |index| index != own)[0].unwrap();
        assert_ne!(other, own);
    }

    #[test]
    fn cookies_name_services_as_they_were_written() {
        let choice = choice(Strategy::RoundRobin, &[("ast", 1), ("bst", 1)], true);
        let pick = |cookie: Option<&'static str>, up: fn(usize) -> bool| {
            let mut headers = HeaderMap::new();
            if let Some(cookie) = cookie {
                headers.insert(COOKIE, HeaderValue::from_static(cookie));
            }
            let chosen = choice.pick("192.0.2.7".parse().unwrap(), &headers, up);
            let chosen = chosen.unwrap();
            let cookie = chosen.set_cookie.map(|it| it.to_str().unwrap().to_owned());
            (chosen.index, cookie)
        };
        // The values are those that Traefik gives.
        let (index, cookie) = pick(None, |_| true);
        let cookie = cookie.unwrap();
        assert_eq!(index, 0);
        assert!(cookie.ends_with("=bdab28c8c51a75db; Path=/"), "{cookie}");
        let name = cookie.split('=').next().unwrap().to_owned();
        let own: &'static str = format!("{name}=346cd2b49312f2f7").leak();
        assert_eq!(pick(Some(own), |_| true), (1, None));
        assert_eq!(pick(Some(own), |index| index == 0).0, 0);
        let old: &'static str = format!("{name}=bst").leak();
        let (index, renewed) = pick(Some(old), |_| true);
        assert_eq!(index, 1);
        assert!(renewed.unwrap().contains("=346cd2b49312f2f7"));
    }
}

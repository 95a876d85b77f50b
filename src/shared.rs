//! Values that everybody who needs an equal one shares, for as long as somebody holds them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Those in use.
pub struct Shared<T>(Mutex<Vec<Weak<T>>>);

impl<T> Shared<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The one that fits, else what `make` gives.
    ///
    /// # Errors
    /// What `make` says.
    pub fn get<E>(
        &self,
        fits: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Result<Arc<T>, E>,
    ) -> Result<Arc<T>, E> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().filter_map(Weak::upgrade).find(|value| fits(value));
        match known {
            Some(known) => Ok(known),
            None => {
                all.retain(|value| value.strong_count() > 0);
                let made = make()?;
                all.push(Arc::downgrade(&made));
                Ok(made)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_are_one_while_somebody_holds_it() {
        static NAMES: Shared<String> = Shared::new();
        let get =
            |name: &str| NAMES.get(|known| known == name, || Ok::<_, ()>(Arc::new(name.to_owned()))).unwrap();
        let (one, other) = (get("a"), get("b"));
        assert!(Arc::ptr_eq(&one, &get("a")) && !Arc::ptr_eq(&one, &other));
        drop(one);
        assert!(NAMES.get(|known| known == "a", || Err(())).is_err(), "it is gone");
        assert!(Arc::ptr_eq(&other, &get("b")));
    }
}

//! Values that must not be seen: never printed, wiped when they are let go.
//!
//! It knows nothing of what they open. `.expose()` is the one way to them, so that every use can be
//! found.

use std::fmt;

use zeroize::Zeroize;

/// A value that is not shown and is overwritten at its end.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a value in.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. It must not be stored, logged or compared byte by byte.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroize;

    use super::Secret;

    struct Seen<'a>(&'a std::cell::Cell<bool>);

    impl Zeroize for Seen<'_> {
        fn zeroize(&mut self) {
            self.0.set(true);
        }
    }

    #[test]
    fn it_is_not_shown() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(…) Secret(…)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn it_is_wiped() {
        let wiped = std::cell::Cell::new(false);
        drop(Secret::new(Seen(&wiped)));
        assert!(wiped.get());
    }
}

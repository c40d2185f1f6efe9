//! JSON pointers (RFC 6901) as text.

/// The pointer one step further down.
pub(super) fn join(pointer: &str, step: &str) -> String {
    let mut out = String::with_capacity(pointer.len().saturating_add(step.len()).saturating_add(1));
    out.push_str(pointer);
    out.push('/');
    for letter in step.chars() {
        match letter {
            '~' => out.push_str("~0"),
            '/' => out.push_str("~1"),
            other => out.push(other),
        }
    }
    out
}

/// One step, as the name that it stands for.
pub(super) fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

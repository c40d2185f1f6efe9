//! What is logged: a level, or a filter in the form of `tracing_subscriber::EnvFilter`. That takes any other
//! word for the name of a crate, so that a misspelt level would log nothing of the agent's.

/// The levels, the quietest first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What only a filter has: a target with its level, several directives, a module's path, a span.
const MARKS: [&str; 4] = ["=", ",", "::", "["];
/// The most similar level is suggested down to this Jaro-Winkler similarity.
const SUGGESTION_MIN: f64 = 0.75;

/// Takes a level or what looks like a filter; whether it is one is the logger's to say. Otherwise words for
/// what is wrong, and a hint.
pub fn log_level(text: &str) -> Result<String, String> {
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    let is_filter = MARKS.iter().any(|mark| text.contains(*mark));
    if is_level || is_filter {
        return Ok(text.to_owned());
    }
    let word = text.to_ascii_lowercase();
    let nearest = LEVELS
        .iter()
        .map(|level| (strsim::jaro_winkler(&word, level), level))
        .filter(|(similarity, _)| *similarity >= SUGGESTION_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map_or_else(
        || {
            let levels = LEVELS.join(", ");
            format!("levels are {levels}; a filter is written like `agent::daemon=debug,info`")
        },
        |(_, level)| format!("did you mean `{level}`?"),
    );
    let text = text.escape_debug();
    Err(format!(
        "`{text}` is neither a level nor a filter\nhint: {hint}"
    ))
}

#[cfg(test)]
mod tests {
    use super::log_level;

    #[test]
    fn levels_and_filters_are_taken_and_other_words_are_not() {
        for text in [
            "off",
            "info",
            "TRACE",
            "agent=trace",
            "agent::daemon",
            "agent::daemon=debug,info",
            "info,agent::kernel::lines=debug",
            "[session]=debug",
        ] {
            assert_eq!(log_level(text).as_deref(), Ok(text));
        }
        for text in ["", "verbose", "warning", "agent", "information", "4"] {
            assert!(log_level(text).is_err(), "{text}");
        }
    }
}

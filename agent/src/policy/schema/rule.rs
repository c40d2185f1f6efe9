//! What can be wrong at a place of a schema, and what to do about it. A homogeneous table of words.

use super::Draft;

/// Something that a schema lacks, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Issue {
    /// JSON pointer into the schema.
    pub pointer: String,
    /// What is wrong there.
    pub rule: Rule,
}

/// What is wrong at a place of a schema.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// An object takes properties that it does not name.
    Open,
    /// An object with free names has no most.
    Properties,
    /// Free names have no greatest length.
    Names,
    /// A string has no greatest length.
    Length,
    /// An array has no most.
    Items,
    /// A number has no least value.
    Low,
    /// A number has no greatest value.
    High,
    /// Any value at all is taken.
    Untyped,
    /// Something else stands where a schema belongs.
    NoSchema,
    /// A keyword that this dialect does not have.
    Keyword(String, Draft),
    /// A keyword beside `$ref`, which draft-07 ignores.
    Ignored,
    /// A format that is not checked in this dialect.
    Format(Draft),
    /// `$id`, `$schema` or an anchor below the root.
    Embedded,
    /// A reference that does not lead to a schema of this document.
    Reference,
    /// A schema inside itself.
    Recursion,
    /// Too large when its references are written out.
    Size,
}

impl Rule {
    /// Whether a policy may take it as it is, with a reason.
    #[must_use]
    pub const fn excusable(&self) -> bool {
        matches!(
            self,
            Self::Open
                | Self::Properties
                | Self::Names
                | Self::Length
                | Self::Items
                | Self::Low
                | Self::High
                | Self::Untyped
        )
    }

    /// Whether nothing may follow the schema's references.
    pub(super) fn is_unsound(&self) -> bool {
        match self {
            Self::NoSchema | Self::Reference | Self::Recursion | Self::Size | Self::Embedded => {
                true
            }
            // Other ways to refer, which the lint does not follow.
            Self::Keyword(name, _) => name.starts_with('$'),
            Self::Open
            | Self::Properties
            | Self::Names
            | Self::Length
            | Self::Items
            | Self::Low
            | Self::High
            | Self::Untyped
            | Self::Ignored
            | Self::Format(_) => false,
        }
    }

    /// What is wrong: to be read after the place.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Open => "the object is not closed".to_owned(),
            Self::Properties => "an object with free names has no `maxProperties`".to_owned(),
            Self::Names => "free names have no greatest length".to_owned(),
            Self::Length => "the string has no `maxLength`".to_owned(),
            Self::Items => "the array has no `maxItems`".to_owned(),
            Self::Low => "the number has no `minimum`".to_owned(),
            Self::High => "the number has no `maximum`".to_owned(),
            Self::Untyped => "any value is taken here: no `type`, `enum` or `const`".to_owned(),
            Self::NoSchema => "a schema is an object or a boolean".to_owned(),
            Self::Keyword(name, draft) => {
                format!(
                    "`{}` is no keyword of {}",
                    name.escape_debug(),
                    draft.name()
                )
            }
            Self::Ignored => "beside `$ref`, draft-07 ignores this".to_owned(),
            Self::Format(draft) => format!("this format is not checked in {}", draft.name()),
            Self::Embedded => "only the root has a name or a dialect of its own".to_owned(),
            Self::Reference => "the reference leads to no schema of this document".to_owned(),
            Self::Recursion => "the schema holds itself".to_owned(),
            Self::Size => "too large when its references are written out".to_owned(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Open => "add \"additionalProperties\": false",
            Self::Properties => "add \"maxProperties\"",
            Self::Names => "add \"propertyNames\": {\"maxLength\": …}",
            Self::Length => "add \"maxLength\"",
            Self::Items => "add \"maxItems\"",
            Self::Low => "add \"minimum\"",
            Self::High => "add \"maximum\"",
            Self::Untyped => "say which type it has",
            Self::NoSchema => "write {} or false, or an object of keywords",
            Self::Keyword(name, draft) => {
                let near = draft
                    .keywords()
                    .map(|keyword| (strsim::jaro_winkler(name, keyword), keyword))
                    .filter(|(similarity, _)| *similarity > 0.85)
                    .max_by(|a, b| a.0.total_cmp(&b.0));
                return near.map_or_else(
                    || "drop it, or begin its name with `x-`".to_owned(),
                    |(_, near)| format!("did you mean `{near}`?"),
                );
            }
            Self::Ignored => "put both into \"allOf\"",
            Self::Format(_) => "use `pattern` and `maxLength`",
            Self::Embedded => "drop it",
            Self::Reference => "write it \"#/$defs/NAME\"; other documents are never read",
            Self::Recursion => "write its levels out",
            Self::Size => "merge alternatives that differ little",
        };
        hint.to_owned()
    }
}

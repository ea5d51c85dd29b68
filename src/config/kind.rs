//! What values a setting may have, and reading them from text.

use std::fmt;

/// The type of a setting with the values it allows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Boolean,
    /// 16-bit; both bounds included.
    Short {
        min: i64,
        max: i64,
    },
    /// 32-bit; both bounds included.
    Int {
        min: i64,
        max: i64,
    },
    /// 64-bit; both bounds included.
    Long {
        min: i64,
        max: i64,
    },
    /// Both bounds included.
    Double {
        min: f64,
        max: f64,
    },
    /// Any text when the list is empty, else one of it.
    Text(&'static [&'static str]),
    /// Comma-separated, each at most once; each one of the list unless that is empty.
    List(&'static [&'static str]),
    Class,
    /// Never shown.
    Password,
}

/// A value in its type.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
}

/// Why a text is no value of a [`Kind`], and what would be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}; {fix}")]
pub struct ValueError {
    pub reason: String,
    pub fix: String,
}

impl Kind {
    /// The value that `text` spells. Spaces around it do not count.
    pub fn parse(&self, text: &str) -> Result<Value, ValueError> {
        let text = text.trim();
        match *self {
            Self::Boolean => match text {
                _ if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
                _ if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
                _ => self.refuse("it is neither true nor false"),
            },
            Self::Short { min, max } | Self::Int { min, max } | Self::Long { min, max } => {
                match text.parse::<i64>() {
                    Err(_) => self.refuse("it is not a whole number"),
                    Ok(number) if number < min => self.refuse("it is too small"),
                    Ok(number) if number > max => self.refuse("it is too large"),
                    Ok(number) => Ok(Value::Integer(number)),
                }
            }
            Self::Double { min, max } => match text.parse::<f64>() {
                Ok(number) if number >= min && number <= max => Ok(Value::Double(number)),
                Ok(_) => self.refuse("it is out of range"),
                Err(_) => self.refuse("it is not a number"),
            },
            Self::Text(allowed) if !allowed.is_empty() && !allowed.contains(&text) => {
                self.refuse("it is none of the possible values")
            }
            Self::List(allowed) => self.parse_list(text, allowed),
            Self::Text(_) | Self::Class | Self::Password => Ok(Value::Text(text.to_owned())),
        }
    }

    fn parse_list(&self, text: &str, allowed: &[&str]) -> Result<Value, ValueError> {
        let mut elements: Vec<String> = Vec::new();
        if text.is_empty() {
            return Ok(Value::List(elements));
        }
        for element in text.split(',').map(str::trim) {
            if element.is_empty() {
                return self.refuse("it has an empty element");
            }
            if !allowed.is_empty() && !allowed.contains(&element) {
                return self.refuse(&format!("'{element}' is none of the possible values"));
            }
            if elements.iter().any(|known| known == element) {
                return self.refuse(&format!("'{element}' appears twice"));
            }
            elements.push(element.to_owned());
        }
        Ok(Value::List(elements))
    }

    fn refuse(&self, reason: &str) -> Result<Value, ValueError> {
        Err(ValueError {
            reason: reason.to_owned(),
            fix: format!("give {self}"),
        })
    }

    /// The number DescribeConfigs uses for the type.
    #[must_use]
    pub fn wire_code(&self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text(_) => 2,
            Self::Int { .. } => 3,
            Self::Short { .. } => 4,
            Self::Long { .. } => 5,
            Self::Double { .. } => 6,
            Self::List(_) => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        matches!(self, Self::Password)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Boolean => f.write_str("true or false"),
            Self::Short { min, max } | Self::Int { min, max } | Self::Long { min, max } => {
                write!(f, "a whole number from {min} to {max}")
            }
            Self::Double { min, max } if max == f64::MAX => {
                write!(f, "a number of at least {min}")
            }
            Self::Double { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Text([]) => f.write_str("a text"),
            Self::Text(allowed) => write!(f, "one of {}", allowed.join(", ")),
            Self::List([]) => f.write_str("a comma-separated list"),
            Self::List(allowed) => {
                write!(f, "a comma-separated list of {}", allowed.join(", "))
            }
            Self::Class => f.write_str("a class name"),
            Self::Password => f.write_str("a secret"),
        }
    }
}

impl Value {
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

//! `message!` declares a protocol struct: its fields in wire order, each with the range of
//! versions that carry it.
//!
//! ```text
//! message! {
//!     /// What it is.
//!     pub struct Name {
//!         field: Type [since..],            // present from version `since` on
//!         gone: Type [0..=3] = default,     // with a default other than `Default::default()`
//!         late: Option<Type> [0..; null 7..], // null only in these versions; an error in others
//!     } tagged {
//!         0 extra: Type [12..],             // tagged field number 0 in flexible versions
//!     }
//! }
//! ```

/// Marks structs made by `message!`.
pub trait IsStruct {}

macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $ty:ty [$range:expr $(; null $null:expr)?] $(= $default:expr)?,
            )*
        } $( tagged {
            $(
                $(#[$tagged_meta:meta])*
                $tag:literal $tagged:ident: $tagged_ty:ty [$tagged_range:expr]
                    $(= $tagged_default:expr)?,
            )*
        } )?
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
            $( $( $(#[$tagged_meta])* pub $tagged: $tagged_ty, )* )?
            /// Tagged fields this version does not know.
            pub unknown_fields: Vec<$crate::wire::primitive::UnknownField>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: message!(@default $($default)?), )*
                    $( $( $tagged: message!(@default $($tagged_default)?), )* )?
                    unknown_fields: Vec::new(),
                }
            }
        }

        impl $crate::wire::macros::IsStruct for $name {}

        impl $crate::wire::primitive::Wire for $name {
            #[allow(unused_mut, unused_variables, clippy::reversed_empty_ranges)]
            fn read(
                from: &mut $crate::wire::Reader,
                version: $crate::wire::Version,
            ) -> Result<Self, $crate::wire::DecodeError> {
                let mut value = Self::default();
                $( if ($range).contains(&version.number) {
                    value.$field = $crate::wire::primitive::Wire::read(from, version)?;
                    $( if value.$field.is_none() && !($null).contains(&version.number) {
                        return Err($crate::wire::DecodeError::UnexpectedNull);
                    } )?
                } )*
                if version.flexible {
                    value.unknown_fields =
                        $crate::wire::primitive::read_tagged(from, |tag, content| {
                            match tag {
                                $( $( $tag if ($tagged_range).contains(&version.number) => {
                                    value.$tagged =
                                        $crate::wire::primitive::Wire::read(content, version)?;
                                    Ok(true)
                                } )* )?
                                _ => Ok(false),
                            }
                        })?;
                }
                Ok(value)
            }

            #[allow(unused_mut, unused_variables, clippy::reversed_empty_ranges)]
            fn write(&self, to: &mut $crate::wire::Writer, version: $crate::wire::Version) {
                $( if ($range).contains(&version.number) {
                    $( if self.$field.is_none() && !($null).contains(&version.number) {
                        to.fail($crate::wire::EncodeError::UnexpectedNull);
                    } )?
                    $crate::wire::primitive::Wire::write(&self.$field, to, version);
                } )*
                if version.flexible {
                    let mut known = Vec::new();
                    $( $(
                        let default: $tagged_ty = message!(@default $($tagged_default)?);
                        if ($tagged_range).contains(&version.number) && self.$tagged != default {
                            let mut content = $crate::wire::Writer::default();
                            $crate::wire::primitive::Wire::write(
                                &self.$tagged,
                                &mut content,
                                version,
                            );
                            known.push(($tag, content));
                        }
                    )* )?
                    $crate::wire::primitive::write_tagged(to, known, &self.unknown_fields);
                }
            }
        }

        #[cfg(test)]
        impl $crate::wire::tests::arbitrary::Arbitrary for $name {
            #[allow(unused_variables, clippy::reversed_empty_ranges)]
            fn arbitrary(
                dice: &mut $crate::wire::tests::arbitrary::Dice,
                version: $crate::wire::Version,
            ) -> Self {
                let mut value = Self::default();
                $( if ($range).contains(&version.number) {
                    value.$field =
                        $crate::wire::tests::arbitrary::Arbitrary::arbitrary(dice, version);
                    $( if value.$field.is_none() && !($null).contains(&version.number) {
                        value.$field = Some(Default::default());
                    } )?
                } )*
                if version.flexible {
                    $( $( if ($tagged_range).contains(&version.number) && dice.one_in(2) {
                        value.$tagged =
                            $crate::wire::tests::arbitrary::Arbitrary::arbitrary(dice, version);
                    } )* )?
                    value.unknown_fields = $crate::wire::tests::arbitrary::unknown_fields(dice);
                }
                value
            }
        }
    )* };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

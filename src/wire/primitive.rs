//! The protocol's field types. A type says by itself how it is coded; the version says whether
//! lengths are fixed-width or compact (flexible versions, KIP-482).

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::later::Later;
use super::reader::{DecodeError, Reader};
use super::writer::{EncodeError, Writer};
use crate::types::Uuid;

/// Which version of an API's schema is being coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    pub number: i16,
    /// Whether lengths are compact and structs end in tagged fields.
    pub flexible: bool,
}

/// A value with a form on the wire.
pub trait Wire: Sized {
    fn read(from: &mut Reader, version: Version) -> Result<Self, DecodeError>;
    fn write(&self, to: &mut Writer, version: Version);
}

/// A UTF-8 string that is a view of the bytes it was read from, or of a static text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Str(Bytes);

impl Str {
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    pub fn from_utf8(bytes: Bytes) -> Result<Self, DecodeError> {
        std::str::from_utf8(&bytes).map_err(|_| DecodeError::BadUtf8)?;
        Ok(Self(bytes))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made")
    }

    /// A copy that does not keep what it was read from, such as the memory of a whole request.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// Record batches, as one or more slices that follow each other. Opaque here: see
/// [`crate::wire::batch`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Records {
    pub slices: Vec<Bytes>,
    /// What follows them and is read as it is sent. Nothing that was received has any.
    pub later: Option<Later>,
}

impl Records {
    #[must_use]
    pub fn len(&self) -> usize {
        let slices: usize = self.slices.iter().map(Bytes::len).sum();
        slices + self.later.as_ref().map_or(0, Later::len)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All slices as one (no copy when there is one).
    #[must_use]
    pub fn contiguous(&self) -> Bytes {
        match self.slices.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => Bytes::from(many.concat()),
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        vec![bytes].into()
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(slices: Vec<Bytes>) -> Self {
        Self {
            slices,
            later: None,
        }
    }
}

/// A tagged field this version does not know, kept so that it can be passed on (KIP-482).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownField {
    pub tag: u32,
    pub content: Bytes,
}

macro_rules! plain {
    ($($ty:ty: $method:ident,)*) => { $(
        impl Wire for $ty {
            fn read(from: &mut Reader, _: Version) -> Result<Self, DecodeError> {
                from.$method()
            }

            fn write(&self, to: &mut Writer, _: Version) {
                to.$method(*self);
            }
        }
    )* };
}

plain! { i8: i8, i16: i16, u16: u16, i32: i32, u32: u32, i64: i64, f64: f64, }

impl Wire for bool {
    fn read(from: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        Ok(from.u8()? != 0)
    }

    fn write(&self, to: &mut Writer, _: Version) {
        to.u8(u8::from(*self));
    }
}

impl Wire for Uuid {
    fn read(from: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        let bytes = from.take(16)?;
        Ok(Self(
            bytes.as_ref().try_into().expect("sixteen bytes were taken"),
        ))
    }

    fn write(&self, to: &mut Writer, _: Version) {
        to.put(&self.0);
    }
}

/// Width of a length in versions that are not flexible. It bounds the length in all versions, so
/// that a name taken in one version can be given back in another.
#[derive(Clone, Copy)]
enum Width {
    Short,
    Long,
}

impl Width {
    fn holds(self, length: u32) -> bool {
        match self {
            Self::Short => i16::try_from(length).is_ok(),
            Self::Long => i32::try_from(length).is_ok(),
        }
    }
}

/// Reads a length; `None` is null.
fn read_length(from: &mut Reader, v: Version, width: Width) -> Result<Option<usize>, DecodeError> {
    if v.flexible {
        let Some(length) = from.unsigned_varint()?.checked_sub(1) else {
            return Ok(None);
        };
        return match width.holds(length) {
            true => Ok(Some(usize::try_from(length).unwrap_or(usize::MAX))),
            false => Err(DecodeError::BadLength(i64::from(length))),
        };
    }
    let length = match width {
        Width::Short => i64::from(from.i16()?),
        Width::Long => i64::from(from.i32()?),
    };
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length)
            .map(Some)
            .map_err(|_| DecodeError::BadLength(length)),
    }
}

fn write_length(to: &mut Writer, v: Version, width: Width, length: usize) {
    if v.flexible {
        match u32::try_from(length) {
            Ok(length) if width.holds(length) => to.unsigned_varint(length + 1),
            _ => to.fail(EncodeError::TooLong(length)),
        }
        return;
    }
    match width {
        Width::Short => match i16::try_from(length) {
            Ok(length) => to.i16(length),
            Err(_) => to.fail(EncodeError::TooLong(length)),
        },
        Width::Long => match i32::try_from(length) {
            Ok(length) => to.i32(length),
            Err(_) => to.fail(EncodeError::TooLong(length)),
        },
    }
}

fn write_null(to: &mut Writer, v: Version, width: Width) {
    match (v.flexible, width) {
        (true, _) => to.unsigned_varint(0),
        (false, Width::Short) => to.i16(-1),
        (false, Width::Long) => to.i32(-1),
    }
}

macro_rules! nullable {
    (
        $ty:ty, $width:expr,
        |$from:ident, $length:ident| $read:expr,
        |$self_:ident, $to:ident, $v:ident| $write:expr
    ) => {
        impl Wire for Option<$ty> {
            fn read($from: &mut Reader, v: Version) -> Result<Self, DecodeError> {
                match read_length($from, v, $width)? {
                    None => Ok(None),
                    Some($length) => Ok(Some($read)),
                }
            }

            fn write(&self, to: &mut Writer, v: Version) {
                match self {
                    None => write_null(to, v, $width),
                    Some(value) => value.write(to, v),
                }
            }
        }

        impl Wire for $ty {
            fn read(from: &mut Reader, v: Version) -> Result<Self, DecodeError> {
                Option::<$ty>::read(from, v)?.ok_or(DecodeError::UnexpectedNull)
            }

            fn write(&self, $to: &mut Writer, $v: Version) {
                let $self_ = self;
                $write
            }
        }
    };
}

nullable!(
    Str,
    Width::Short,
    |from, length| Str::from_utf8(from.take(length)?)?,
    |this, to, v| {
        write_length(to, v, Width::Short, this.0.len());
        to.put(&this.0);
    }
);

nullable!(
    Bytes,
    Width::Long,
    |from, length| from.take(length)?,
    |this, to, v| {
        write_length(to, v, Width::Long, this.len());
        to.put_shared(this);
    }
);

nullable!(
    Records,
    Width::Long,
    |from, length| Records::from(from.take(length)?),
    |this, to, v| {
        write_length(to, v, Width::Long, this.len());
        for slice in &this.slices {
            to.put_shared(slice);
        }
        if let Some(later) = &this.later {
            to.put_later(later);
        }
    }
);

/// First allocation for an array is at most this many elements; it grows as elements arrive.
const PREALLOCATE_MAX: usize = 256;

impl<T: Wire> Wire for Option<Vec<T>> {
    fn read(from: &mut Reader, v: Version) -> Result<Self, DecodeError> {
        let Some(count) = read_length(from, v, Width::Long)? else {
            return Ok(None);
        };
        from.claim_array::<T>(count)?;
        let mut elements = Vec::with_capacity(count.min(PREALLOCATE_MAX));
        for _ in 0..count {
            elements.push(T::read(from, v)?);
        }
        Ok(Some(elements))
    }

    fn write(&self, to: &mut Writer, v: Version) {
        match self {
            None => write_null(to, v, Width::Long),
            Some(elements) => elements.write(to, v),
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(from: &mut Reader, v: Version) -> Result<Self, DecodeError> {
        Option::<Self>::read(from, v)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn write(&self, to: &mut Writer, v: Version) {
        write_length(to, v, Width::Long, self.len());
        for element in self {
            element.write(to, v);
        }
    }
}

/// A struct that may be null: one byte, -1 for null and 1 for present, before it.
impl<T: Wire + super::macros::IsStruct> Wire for Option<Box<T>> {
    fn read(from: &mut Reader, v: Version) -> Result<Self, DecodeError> {
        match from.i8()? {
            present if present < 0 => Ok(None),
            _ => Ok(Some(Box::new(T::read(from, v)?))),
        }
    }

    fn write(&self, to: &mut Writer, v: Version) {
        match self {
            None => to.i8(-1),
            Some(value) => {
                to.i8(1);
                value.write(to, v);
            }
        }
    }
}

/// Reads the tagged fields at the end of a flexible struct. `known` takes a field it knows and
/// returns whether it did.
pub(super) fn read_tagged(
    from: &mut Reader,
    mut known: impl FnMut(u32, &mut Reader) -> Result<bool, DecodeError>,
) -> Result<Vec<UnknownField>, DecodeError> {
    let count = from.unsigned_varint()?;
    from.claim_array::<UnknownField>(usize::try_from(count).unwrap_or(usize::MAX))?;
    let mut unknown = Vec::new();
    for _ in 0..count {
        let tag = from.unsigned_varint()?;
        let size = usize::try_from(from.unsigned_varint()?).unwrap_or(usize::MAX);
        let mut content = from.sub(size)?;
        let whole = content.clone();
        if known(tag, &mut content)? {
            content
                .finish()
                .map_err(|_| DecodeError::BadTaggedField(tag))?;
            from.rejoin(&content);
        } else {
            let mut whole = whole;
            unknown.push(UnknownField {
                tag,
                content: whole.take(size)?,
            });
        }
    }
    // Fields should come by ascending tag. Kafka does not insist, so neither is it refused here;
    // what is kept is in order.
    unknown.sort_by_key(|field| field.tag);
    Ok(unknown)
}

/// Writes the tagged fields at the end of a flexible struct: those in `known` (tag and content,
/// ascending) merged with those kept from elsewhere.
pub(super) fn write_tagged(to: &mut Writer, known: Vec<(u32, Writer)>, unknown: &[UnknownField]) {
    let mut fields = known;
    for field in unknown {
        let mut content = Writer::default();
        content.put_shared(&field.content);
        fields.push((field.tag, content));
    }
    fields.sort_by_key(|(tag, _)| *tag);
    to.unsigned_varint(u32::try_from(fields.len()).unwrap_or(u32::MAX));
    for (tag, content) in fields {
        to.unsigned_varint(tag);
        to.unsigned_varint(u32::try_from(content.len()).unwrap_or(u32::MAX));
        to.append(content);
    }
}

//! What the elements of a field are: their type, and their kind to a statistician.
//!
//! Names and numbers of `proto/`, and the one number that only the third dialect has (`DT_ANY`). Not here: what a type means in
//! memory (`tensor.rs`), and which dialect has which type (`wire.rs`).
//!
//! What must stay true: a number that is not listed is `None`, never the nearest thing. TensorFlow gave 24 to 32 to types of its own
//! after 2018, so its numbers above 23 mean something else than ours (`saved_model_meta.rs` refuses them).

use std::fmt;

/// The element type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum DataType {
    /// What an absent dtype reads as; no valid field has it.
    Invalid = 0,
    Float = 1,
    Double = 2,
    Int32 = 3,
    Uint8 = 4,
    Int16 = 5,
    Int8 = 6,
    String = 7,
    Complex64 = 8,
    Int64 = 9,
    Bool = 10,
    Qint8 = 11,
    Quint8 = 12,
    Qint32 = 13,
    Bfloat16 = 14,
    Qint16 = 15,
    Quint16 = 16,
    Uint16 = 17,
    Complex128 = 18,
    Half = 19,
    Resource = 20,
    Variant = 21,
    Uint32 = 22,
    Uint64 = 23,
    /// Any type at all: the third dialect only.
    Any = 24,
    /// Named tensors inside one tensor.
    Map = 27,
}

impl DataType {
    /// Every type, by number.
    pub const ALL: [DataType; 26] = [
        DataType::Invalid,
        DataType::Float,
        DataType::Double,
        DataType::Int32,
        DataType::Uint8,
        DataType::Int16,
        DataType::Int8,
        DataType::String,
        DataType::Complex64,
        DataType::Int64,
        DataType::Bool,
        DataType::Qint8,
        DataType::Quint8,
        DataType::Qint32,
        DataType::Bfloat16,
        DataType::Qint16,
        DataType::Quint16,
        DataType::Uint16,
        DataType::Complex128,
        DataType::Half,
        DataType::Resource,
        DataType::Variant,
        DataType::Uint32,
        DataType::Uint64,
        DataType::Any,
        DataType::Map,
    ];

    /// Its number in `proto/`.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The type with this number.
    pub fn from_number(number: i32) -> Option<DataType> {
        DataType::ALL.into_iter().find(|dtype| dtype.number() == number)
    }

    /// Its name in `proto/`: `DT_FLOAT`.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Invalid => "DT_INVALID",
            DataType::Float => "DT_FLOAT",
            DataType::Double => "DT_DOUBLE",
            DataType::Int32 => "DT_INT32",
            DataType::Uint8 => "DT_UINT8",
            DataType::Int16 => "DT_INT16",
            DataType::Int8 => "DT_INT8",
            DataType::String => "DT_STRING",
            DataType::Complex64 => "DT_COMPLEX64",
            DataType::Int64 => "DT_INT64",
            DataType::Bool => "DT_BOOL",
            DataType::Qint8 => "DT_QINT8",
            DataType::Quint8 => "DT_QUINT8",
            DataType::Qint32 => "DT_QINT32",
            DataType::Bfloat16 => "DT_BFLOAT16",
            DataType::Qint16 => "DT_QINT16",
            DataType::Quint16 => "DT_QUINT16",
            DataType::Uint16 => "DT_UINT16",
            DataType::Complex128 => "DT_COMPLEX128",
            DataType::Half => "DT_HALF",
            DataType::Resource => "DT_RESOURCE",
            DataType::Variant => "DT_VARIANT",
            DataType::Uint32 => "DT_UINT32",
            DataType::Uint64 => "DT_UINT64",
            DataType::Any => "DT_ANY",
            DataType::Map => "DT_MAP",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<DataType> {
        DataType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the values of a field are to a statistician: a hint for monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are the profiles")]
pub enum Profile {
    /// Nothing said.
    #[default]
    None = 0,
    Categorical = 1,
    Nominal = 11,
    Ordinal = 12,
    Numerical = 2,
    Continuous = 21,
    Interval = 22,
    Ratio = 23,
    Image = 3,
    Video = 4,
    Audio = 5,
    Text = 6,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 12] = [
        Profile::None,
        Profile::Categorical,
        Profile::Nominal,
        Profile::Ordinal,
        Profile::Numerical,
        Profile::Continuous,
        Profile::Interval,
        Profile::Ratio,
        Profile::Image,
        Profile::Video,
        Profile::Audio,
        Profile::Text,
    ];

    /// Its number in `proto/`.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The profile with this number.
    pub fn from_number(number: i32) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.number() == number)
    }

    /// Its name in `proto/`: `NUMERICAL`.
    pub fn name(self) -> &'static str {
        match self {
            Profile::None => "NONE",
            Profile::Categorical => "CATEGORICAL",
            Profile::Nominal => "NOMINAL",
            Profile::Ordinal => "ORDINAL",
            Profile::Numerical => "NUMERICAL",
            Profile::Continuous => "CONTINUOUS",
            Profile::Interval => "INTERVAL",
            Profile::Ratio => "RATIO",
            Profile::Image => "IMAGE",
            Profile::Video => "VIDEO",
            Profile::Audio => "AUDIO",
            Profile::Text => "TEXT",
        }
    }

    /// The profile with this name.
    pub fn from_name(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::hydrosphere::{monitoring, serving, tensorflow};

    #[test]
    fn names_and_numbers_are_those_of_the_protos() {
        for number in -1..200 {
            let seed = tensorflow::DataType::try_from(number).ok().map(|dtype| dtype.as_str_name());
            let third = serving::contract::DataType::try_from(number).ok().map(|dtype| dtype.as_str_name());
            assert_eq!(DataType::from_number(number).map(DataType::name), seed.or(third), "{number}");
            if let (Some(seed), Some(third)) = (seed, third) {
                assert_eq!(seed, third);
            }
            let profile = monitoring::DataProfileType::try_from(number).ok().map(|profile| profile.as_str_name());
            assert_eq!(Profile::from_number(number).map(Profile::name), profile, "{number}");
            let third = serving::contract::DataProfileType::try_from(number).ok().map(|profile| profile.as_str_name());
            assert_eq!(profile, third, "{number}");
        }
        assert!(DataType::ALL.into_iter().all(|dtype| DataType::from_name(dtype.name()) == Some(dtype)));
        assert!(Profile::ALL.into_iter().all(|profile| Profile::from_name(profile.name()) == Some(profile)));
    }
}

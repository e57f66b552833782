//! Which blocks a client of Deliver asked for, of a peer or of an orderer.
//!
//! Promises Fabric's reading of every position. Pure.

use tidings_proto::common::Status;
use tidings_proto::orderer::SeekInfo;
use tidings_proto::orderer::seek_info::{SeekBehavior, SeekContentType};
use tidings_proto::orderer::seek_position::Type;

use super::request::Refused;

/// Blocks from `next` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seek {
    /// The next block to send.
    pub next: u64,
    /// After this one the request is done. It is compared for equality, as in Fabric: a stop
    /// that is behind the start (newest of a start at the end) never comes.
    pub stop: u64,
    /// Whether a block that is not there yet is waited for.
    pub waits: bool,
    /// Whether transactions are left out.
    pub headers_only: bool,
}

impl Seek {
    /// Reads the request against the height at its arrival.
    pub fn new(info: &SeekInfo, height: u64) -> Result<Self, Refused> {
        let (Some(start), Some(stop)) = (&info.start, &info.stop) else {
            return Err(Refused::bad("start or stop is missing"));
        };
        let (start, stop) = (start.r#type, stop.r#type);
        let next = match start {
            Some(Type::Oldest(_)) => 0,
            Some(Type::Newest(_)) => height.saturating_sub(1),
            Some(Type::NextCommit(_)) => height,
            Some(Type::Specified(at)) if at.number > height => {
                return Err(Refused::new(Status::NotFound, "start is above the height"));
            }
            Some(Type::Specified(at)) => at.number,
            None => return Err(Refused::new(Status::NotFound, "start is nowhere")),
        };
        let stop = match stop {
            Some(Type::Oldest(_)) => next,
            Some(Type::Newest(_)) if matches!(start, Some(Type::Newest(_))) => next,
            Some(Type::Newest(_)) => height.saturating_sub(1),
            Some(Type::Specified(at)) if at.number < next => {
                return Err(Refused::bad("stop is below start"));
            }
            Some(Type::Specified(at)) => at.number,
            // Fabric leaves the stop at zero, so that it never comes but after block 0.
            Some(Type::NextCommit(_)) | None => 0,
        };
        Ok(Self {
            next,
            stop,
            waits: info.behavior == SeekBehavior::BlockUntilReady as i32,
            headers_only: info.content_type == SeekContentType::HeaderWithSig as i32,
        })
    }
}

#[cfg(test)]
mod tests {
    use tidings_proto::orderer::{
        SeekNewest, SeekNextCommit, SeekOldest, SeekPosition, SeekSpecified,
    };

    use super::*;

    const OLDEST: Type = Type::Oldest(SeekOldest {});
    const NEWEST: Type = Type::Newest(SeekNewest {});
    const NEXT: Type = Type::NextCommit(SeekNextCommit {});

    fn at(number: u64) -> Type {
        Type::Specified(SeekSpecified { number })
    }

    fn seek(start: Type, stop: Type) -> Result<(u64, u64), Status> {
        let position = |of| Some(SeekPosition { r#type: Some(of) });
        let info = SeekInfo {
            start: position(start),
            stop: position(stop),
            ..SeekInfo::default()
        };
        Seek::new(&info, 10)
            .map(|seek| (seek.next, seek.stop))
            .map_err(|refused| refused.status)
    }

    #[test]
    fn positions_mean_what_they_mean_in_fabric() {
        for (start, stop, expected) in [
            (OLDEST, at(u64::MAX), Ok((0, u64::MAX))),
            (NEWEST, NEWEST, Ok((9, 9))),
            (OLDEST, NEWEST, Ok((0, 9))),
            (NEXT, NEWEST, Ok((10, 9))),
            (at(3), OLDEST, Ok((3, 3))),
            (at(3), NEXT, Ok((3, 0))),
            (at(10), at(u64::MAX), Ok((10, u64::MAX))),
            (at(11), at(u64::MAX), Err(Status::NotFound)),
            (at(5), at(4), Err(Status::BadRequest)),
            (at(5), at(5), Ok((5, 5))),
        ] {
            assert_eq!(seek(start, stop), expected, "{start:?} {stop:?}");
        }
    }

    #[test]
    fn a_missing_position_is_a_bad_request_and_one_of_no_type_is_nowhere() {
        let position = |of| Some(SeekPosition { r#type: of });
        let newest = position(Some(NEWEST));
        for (start, stop, expected) in [
            (None, newest, Err(Status::BadRequest)),
            (newest, None, Err(Status::BadRequest)),
            (position(None), newest, Err(Status::NotFound)),
            (newest, position(None), Ok(0)),
        ] {
            let info = SeekInfo {
                start,
                stop,
                ..SeekInfo::default()
            };
            let stop = Seek::new(&info, 10).map(|seek| seek.stop);
            assert_eq!(stop.map_err(|refused| refused.status), expected);
        }
    }
}

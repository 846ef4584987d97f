//! `hang_up`: the model ends the call. The call itself does it, since only it knows when the last words have
//! been heard.

pub(super) const NAME: &str = "hang_up";

pub(super) const DESCRIPTION: &str = "Ends the call. Use it when the user says goodbye or asks to hang up. \
     Say a short goodbye too; the call ends after it has been spoken.";

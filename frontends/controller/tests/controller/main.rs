//! Tests of the controller: against a real Open vSwitch, against switches in memory, and of what it derives.

mod cluster;
mod derived;
mod encrypted;
mod failures;
mod happenings;
mod lifecycle;
mod os_ken;
mod page;
mod simulated;
mod spanning;
mod support;
mod traces;
mod version_3;

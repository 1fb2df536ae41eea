"""Everything a provider may do. The only list of it: gaps, caveats, tools, the README and the tests read it."""

from enum import StrEnum


class Feature(StrEnum):
    """An operation (named like its tool and its `Provider` method) or, dotted, a finer part of one."""

    LIST_EVENT_TYPES = "list_event_types"
    SAVE_EVENT_TYPE = "save_event_type"
    SAVE_EVENT_TYPE_SLUG = "save_event_type.slug"
    SAVE_EVENT_TYPE_MINIMUM_NOTICE = "save_event_type.minimum_notice_minutes"
    DELETE_EVENT_TYPE = "delete_event_type"
    FIND_SLOTS = "find_slots"
    FIND_BUSY_TIMES = "find_busy_times"
    CREATE_BOOKING = "create_booking"
    CREATE_BOOKING_GUESTS = "create_booking.guests"
    CREATE_BOOKING_LOCATION = "create_booking.location"
    CREATE_BOOKING_NOTES = "create_booking.notes"
    LIST_BOOKINGS = "list_bookings"
    GET_BOOKING = "get_booking"
    RESCHEDULE_BOOKING = "reschedule_booking"
    CANCEL_BOOKING = "cancel_booking"
    RESPOND_TO_BOOKING = "respond_to_booking"
    RESPOND_CONFIRM = "respond_to_booking.confirm"
    RESPOND_DECLINE = "respond_to_booking.decline"
    RESPOND_TENTATIVE = "respond_to_booking.tentative"
    RESPOND_NO_SHOW = "respond_to_booking.no_show"
    RESPOND_CLEAR_NO_SHOW = "respond_to_booking.clear_no_show"
    LIST_SCHEDULES = "list_schedules"
    UPDATE_SCHEDULE = "update_schedule"
    UPDATE_SCHEDULE_DATES = "update_schedule.date_overrides"
    CREATE_SCHEDULING_LINK = "create_scheduling_link"
    CREATE_SCHEDULING_LINK_REUSABLE = "create_scheduling_link.reusable"

    @property
    def operation(self) -> "Feature":
        """The operation this feature is, or is a part of."""
        return Feature(self.partition(".")[0])

    @property
    def is_operation(self) -> bool:
        """Operations are methods of a provider; the rest are parts of a request."""
        return "." not in self

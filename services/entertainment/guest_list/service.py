"""The declaration of guest-list. Read this first."""

from typing import Final

from services._kit.service import Entity, Service
from services.entertainment.guest_list.api import GuestAdmitted, GuestList
from services.entertainment.guest_list.jobs import CLOSE_ENDED, WRITE_INVITATION
from services.entertainment.guest_list.logic import GUEST_LIST
from services.entertainment.guest_list.routes import ROUTES, count_arrival, many
from services.entertainment.guest_list.store import BOARD, GuestStore

SERVICE: Final = Service(
    name="guest-list",
    summary="Guest lists with a capacity, and the door that admits their guests.",
    routes=ROUTES,
    publishes=GUEST_LIST.events,
    consumes={GuestAdmitted: count_arrival},
    jobs=(WRITE_INVITATION, CLOSE_ENDED),
    entities=(Entity(GuestList, many, needs="guest-list.list.read"),),
    projections=(BOARD,),
    store=GuestStore,
)

"""The service that `tests.toy` speaks to: a plain REST dialect of the world, invented for the tests."""

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.emulators.wire import serve
from tests.world import Appointment, Kind, Taken, World


def app(world: World) -> ASGIApp:
    def kind(id: str, kind: Kind) -> dict[str, Any]:
        return {"id": id, "title": kind.title, "minutes": kind.minutes, "questions": list(kind.questions)}

    def booking(id: str, each: Appointment) -> dict[str, Any]:
        return {
            "id": id,
            "kind": each.kind,
            "title": f"{world.kinds[each.kind].title} with {each.name}",
            "state": each.status,
            "from": each.start.isoformat(),
            "to": each.end.isoformat(),
            "guest": {"name": each.name, "email": each.email, "zone": each.zone, "missed": each.no_show},
            "others": list(each.guests),
            "answers": each.answers,
            "notes": each.notes,
            "reason": each.reason,
            "marker": each.marker,
            "created": each.created.isoformat(),
        }

    def problem(status: int, code: str) -> JSONResponse:
        return JSONResponse({"problem": code}, status)

    async def me(_: Request) -> JSONResponse:
        return JSONResponse({"email": "host@example.com", "name": "Host", "zone": "Europe/Berlin"})

    async def kinds(_: Request) -> JSONResponse:
        return JSONResponse({"kinds": [kind(id, each) for id, each in world.kinds.items()]})

    async def slots(request: Request) -> JSONResponse:
        query = request.query_params
        if query["kind"] not in world.kinds:
            return problem(404, "no_such_kind")
        start, end = (datetime.fromisoformat(query[name]) for name in ("from", "to"))
        free = world.free(query["kind"], start, end, moving=query.get("moving"))
        return JSONResponse({"slots": [at.isoformat() for at in free]})

    async def busy(request: Request) -> JSONResponse:
        start, end = (datetime.fromisoformat(request.query_params[name]) for name in ("from", "to"))
        found = [each for each in world.appointments.items() if each[1].live]
        return JSONResponse(
            {"busy": [booking(id, each) for id, each in found if each.start < end and start < each.end]}
        )

    async def bookings(request: Request) -> JSONResponse:
        found = sorted(world.appointments.items(), key=lambda each: each[1].start)
        return JSONResponse({"bookings": [booking(id, each) for id, each in found]})

    async def book(request: Request) -> JSONResponse:
        body = await request.json()
        if body["kind"] not in world.kinds:
            return problem(404, "no_such_kind")
        details = {name: body[name] for name in ("answers", "notes", "marker")}
        start = datetime.fromisoformat(body["from"])
        guest = body["guest"]
        try:
            id = world.book(
                body["kind"],
                start,
                guest["email"],
                name=guest["name"],
                zone=guest["zone"],
                guests=tuple(body["others"]),
                **details,
            )
        except Taken:
            return problem(409, "taken")
        return JSONResponse(booking(id, world.appointments[id]), 201)

    async def get(request: Request) -> JSONResponse:
        id = request.path_params["id"]
        return JSONResponse(booking(id, world.appointments[id])) if id in world.appointments else problem(404, "gone")

    async def change(request: Request) -> JSONResponse:
        id, body = request.path_params["id"], await request.json()
        if id not in world.appointments:
            return problem(404, "gone")
        try:
            if "from" in body:
                world.move(id, datetime.fromisoformat(body["from"]))
        except Taken:
            return problem(409, "taken")
        names = {"state": "status", "reason": "reason", "missed": "no_show"}
        world.change(id, **{names[name]: value for name, value in body.items() if name in names})
        return JSONResponse(booking(id, world.appointments[id]))

    return serve(
        world,
        [
            Route("/me", me),
            Route("/kinds", kinds),
            Route("/slots", slots),
            Route("/busy", busy),
            Route("/bookings", bookings, methods=["GET"]),
            Route("/bookings", book, methods=["POST"]),
            Route("/bookings/{id}", get, methods=["GET"]),
            Route("/bookings/{id}", change, methods=["PATCH"]),
        ],
    )


def event_type_id(world: World, kind: str) -> str:
    return kind


def booking_id(world: World, appointment: str) -> str:
    return appointment

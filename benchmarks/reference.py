"""The least that a function can do for a login code: a script in Valkey and a row in PostgreSQL. No queue, no proof."""

from __future__ import annotations

import os
from typing import Any

import functions_framework.aio
import valkey.asyncio as valkey
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

NEXT_STEP = "return redis.call('INCR', KEYS[1])"
POOL = AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=8, kwargs={"autocommit": True}, open=False)
VALKEY: Any = valkey.Valkey(
    host=os.environ["VALKEY_HOST"], port=int(os.environ["VALKEY_PORT"]), password=os.environ["VALKEY_PASSWORD"]
)


@functions_framework.aio.http
async def reference(_request: Request) -> Response:
    """Any path."""
    if POOL.closed:
        await POOL.open()
    step = await VALKEY.eval(NEXT_STEP, 1, "reference")
    async with POOL.connection() as connection:
        await connection.execute("INSERT INTO reference_steps (step) VALUES (%s)", (step,))
    return JSONResponse({"step": step})

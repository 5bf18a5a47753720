"""What a caller is told where a call fails: the status, and no more of the node than is the caller's to know."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import grpc

from data_owner.servable import NotServed
from data_owner.serving.trust_metadata import AnotherWitness, ClocksDiffer
from protocol.refusals import NotLogged, Rewritten, RuleBroken
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure

log = logging.getLogger("fair4free.owner")

Answer = TypeVar("Answer")


def answer(context: grpc.ServicerContext, work: Callable[[], Answer]) -> Answer:
    """Do `work` on what the node holds. What is wrong with that is for its log; a caller learns only that it is.

    What the caller has to mend, or a person here to decide, it is told without the remedy, which is for this side.
    """
    try:
        return work()
    except NotServed as error:
        context.abort(grpc.StatusCode.NOT_FOUND, f"{error.field}: {error.problem}")
    except RuleBroken as error:
        log.error("refused by the egress log", extra={"problem": str(error)})
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not, or no longer, approved")
    except PolicyRefusal as error:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{error.field}: {error.problem}")
    except Unreachable as error:
        log.error("cannot answer", extra={"problem": str(error)})
        context.abort(grpc.StatusCode.INTERNAL, "the owner cannot read what it should serve")
    except AnotherWitness as error:
        context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{error.field}: {error.problem}")
    except ClocksDiffer as error:
        log.warning("a caller's clock is another", extra={"problem": str(error)})
        context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{error.field}: {error.problem}")
    except (BadInput, NotLogged) as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{error.field}: {error.problem}")
    except VerificationFailure as error:
        log.error("what is here is not what was signed", extra={"problem": str(error)})
        context.abort(grpc.StatusCode.DATA_LOSS, "what the owner holds is not what was signed")
    except Exception:  # gRPC would send its words to the caller
        log.exception("cannot answer")
        context.abort(grpc.StatusCode.INTERNAL, "the owner cannot answer")


def judge(context: grpc.ServicerContext, work: Callable[[], Answer]) -> Answer:
    """Do `work` on what the caller sent: where that does not verify, it is the caller's to mend."""

    def judged() -> Answer:
        try:
            return work()
        except (Rewritten, RuleBroken):  # of our own log
            raise
        except VerificationFailure as error:
            raise BadInput(error.problem, field=error.field, remedy=error.remedy) from error

    return answer(context, judged)

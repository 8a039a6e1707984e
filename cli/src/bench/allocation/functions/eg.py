# E-mail: `mails` messages with an attachment each, handed to a server that takes one every 12.5 ms.
import base64
import hashlib
import time
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

PACE = 0.0125
ATTACHED = hashlib.sha256(b"windfall").digest() * 256


def mail(number):
    message = MIMEMultipart()
    message["To"] = "customer-%d@example.org" % number
    message["Subject"] = "Your order %d" % (number * 7919)
    message.attach(MIMEText("Dear customer,\n" + "thank you for your order.\n" * 20))
    message.attach(MIMEApplication(ATTACHED))
    return message.as_bytes()


def main(args):
    began, size = time.monotonic(), 0
    for number in range(args["mails"]):
        size += len(base64.b64encode(mail(number)))
        time.sleep(max(0.0, began + (number + 1) * PACE - time.monotonic()))
    return {"bytes": size}

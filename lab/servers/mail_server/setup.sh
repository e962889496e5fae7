groupadd --gid 5000 vmail
useradd --uid 5000 --gid 5000 --home-dir /var/mail/lab --no-create-home --shell /usr/sbin/nologin vmail
install -d -o vmail -g vmail -m 0750 /var/mail/lab
postconf -M 'submission/inet=submission inet n - y - - smtpd'
postconf -P 'submission/inet/syslog_name=postfix/submission'
enable postfix.service
systemctl daemon-reload
systemctl start postfix.service

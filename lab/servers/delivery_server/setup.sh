enable nginx.service
systemctl daemon-reload
systemctl start nginx.service
